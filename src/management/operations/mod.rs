//! The operations, each declared beside its handler.

mod approvals;
mod audit;
mod clock;
mod data;
mod datasets;
mod membership;
mod open;
mod requests;
mod schemas;
mod search;
mod sources;
mod status;
mod subscriptions;
mod tokens;
mod transfers;
mod upload;

use super::routes::Routes;

/// Adds all of them.
pub fn all(routes: Routes) -> Routes {
    let parts = [
        open::add,
        status::add,
        clock::add,
        tokens::add,
        membership::add,
        schemas::add,
        datasets::add,
        sources::add,
        requests::add,
        subscriptions::add,
        data::add,
        approvals::add,
        transfers::add,
        search::add,
        audit::add,
    ];
    parts.into_iter().fold(routes, |routes, add| add(routes))
}
