//! The use cases of a node's users and of registers: each write of each use case fails before and after it persists,
//! and the node crashes before and after it. Repeated, each use case ends as if nothing had happened.

use super::faults::{Fault, Plan};
use super::seeds::run;
use super::world::{A, B, World, enterprise, user};
use crosspark::contracts::RequestStage;
use crosspark::core::id::Text;
use crosspark::delivery::Opened;
use crosspark::idempotency::IdempotencyKey;
use crosspark::node::{Error, UserRole};
use crosspark::operations::NewToken;
use crosspark::services::Services;
use std::sync::Arc;
use std::time::Duration;

/// A use case at park A, or at park B for delivered datasets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    Publish,
    CreateToken,
    RevokeToken,
    InstallRegister,
    Refuse,
    Close,
    Open,
}

const ALL: [Use; 7] =
    [Use::Publish, Use::CreateToken, Use::RevokeToken, Use::InstallRegister, Use::Refuse, Use::Close, Use::Open];

fn new_token() -> NewToken {
    NewToken { role: UserRole::Auditor, person: Text::parse("x").unwrap(), enterprise: None, days: 1 }
}

impl Use {
    fn park(self) -> usize {
        if self == Self::Open { B } else { A }
    }

    async fn act(self, world: &World, node: &Services) -> Result<(), Error> {
        let once = || IdempotencyKey::new("one-key", &[b"the same request"]).unwrap();
        match self {
            Self::Publish => world.publish_once(node, &once()).await,
            Self::CreateToken => match node.operations.tokens.create(&user(), &new_token(), Some(&once())).await {
                // The token was created, but the answer was lost.
                Err(Error::Invalid { code: "conflict", .. }) => Ok(()),
                made => made.map(drop),
            },
            Self::RevokeToken => {
                let token = node.operations.tokens.list().await?.pop().expect("a token was created before");
                node.operations.tokens.revoke(&token.id).await
            }
            Self::InstallRegister => node.membership.install_register(world.next_register(), "file").await.map(drop),
            Self::Refuse => match node.contracts.requests.view(&user(), &"urn:uuid:none".parse().unwrap()).await {
                Err(Error::NotFound { .. }) => {
                    let refused = node.operations.tokens.refuse_role(&user(), &["admin"], "GET /v1/tokens").await;
                    if matches!(refused, Error::Forbidden { .. }) { Ok(()) } else { Err(refused) }
                }
                other => panic!("{other:?}"),
            },
            Self::Close => node.evidence.close().await,
            Self::Open => {
                let request = world.store(B).requests(&enterprise(), None, 1).await.unwrap().pop().unwrap();
                let Opened::Kept(mut kept) = node.contracts.requests.open(&user(), &request.id).await? else {
                    panic!("expected a stored dataset")
                };
                kept.0.read(|_| Ok(())).map_err(|error| Error::Internal(error.to_string()))
            }
        }
    }

    /// Sets up the use case.
    async fn prepare(self, world: &Arc<World>) {
        world.start(A).await;
        world.start(B).await;
        match self {
            Self::RevokeToken => {
                drop(world.living(A).await.operations.tokens.create(&user(), &new_token(), None).await.unwrap())
            }
            Self::Open => {
                let request = world.request().await;
                assert_eq!(world.settle(&request).await.0, RequestStage::Verified);
            }
            _ => {}
        }
    }

    /// Checks the final state.
    async fn check(self, world: &World) {
        let store = world.store(self.park());
        let datasets = store.datasets(None, 100).await.unwrap().len();
        match self {
            Self::Publish => assert_eq!(datasets, 2, "published once"),
            Self::CreateToken => assert_eq!(store.tokens().await.unwrap().len(), 1, "created once"),
            Self::RevokeToken => assert!(store.tokens().await.unwrap()[0].revoked),
            Self::InstallRegister => {
                let sequence = world.living(A).await.node.trust().register.body().sequence;
                assert_eq!(store.register_sequence().await.unwrap(), sequence.max(4));
            }
            Self::Refuse | Self::Close | Self::Open => {}
        }
        let log = world.log(self.park()).await;
        let opened = log.iter().filter(|entry| entry["kind"] == "dataset.opened").count();
        assert_eq!(opened > 0, self == Self::Open, "every opening has a log entry");
        // After a restart a node has no unreferenced blobs.
        world.restart(self.park()).await;
        let blobs = std::fs::read_dir(world.received(A).join("own")).unwrap().count();
        assert_eq!(
            blobs,
            1 + world.store(A).datasets(None, 100).await.unwrap().len(),
            "blobs, and the folder of parts"
        );
    }
}

/// Repeats the use case until it succeeds, as a person or program would.
async fn insist(what: Use, world: &World) {
    for _ in 0..20 {
        let node = world.living(what.park()).await;
        // A crashed node does not answer.
        let done = tokio::time::timeout(Duration::from_secs(30), what.act(world, &node)).await;
        if matches!(done, Ok(Ok(()))) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{what:?} never succeeds");
}

#[test]
fn each_write_of_each_use_case_fails_in_each_way() {
    for what in ALL {
        let plans = |step: u32, fault: Fault| {
            let mut plans = [Plan::Never, Plan::Never];
            plans[what.park()] = Plan::Step(step, fault);
            plans
        };
        // Without faults: counts the writes of the setup, and those of the use case.
        let (before, after) = run(async || {
            let world = World::new(1, [Plan::Never, Plan::Never], 0);
            what.prepare(&world).await;
            let before = world.writes(what.park());
            insist(what, &world).await;
            let after = world.writes(what.park());
            what.check(&world).await;
            (before, after)
        });
        assert!(after > before, "{what:?} has no writes");
        for step in before + 1..=after {
            for fault in Fault::ALL {
                println!("{what:?}, write {step}, {fault:?}");
                run(async || {
                    let world = World::new(1, plans(step, fault), 0);
                    what.prepare(&world).await;
                    insist(what, &world).await;
                    what.check(&world).await;
                });
            }
        }
    }
}
