//! `crosspark alliance change | remove | suspend | reinstate`

use super::alliance_folder::{Folder, show};
use super::args::parse_name;
use super::outcome::Outcome;
use super::output::say;
use crate::alliance::{Alliance, MemberChange};
use crate::core::id::{ParticipantId, Text};
use crate::core::time::{Clock, SystemClock};
use crate::identity::endpoint::Endpoint;
use crate::identity::register::Status;
use clap::Args;

#[derive(Args)]
pub struct Member {
    #[command(flatten)]
    folder: Folder,
    /// Id of the member.
    member: ParticipantId,
}

#[derive(Args)]
pub struct Suspend {
    #[command(flatten)]
    member: Member,
    /// Reason, which all members can read.
    #[arg(long)]
    reason: Text,
}

#[derive(Args)]
pub struct Change {
    #[command(flatten)]
    member: Member,
    /// Groups of the member, instead of its present ones. Repeat for several.
    #[arg(long = "group", conflicts_with = "no_groups")]
    groups: Vec<Text>,
    /// Remove the member from all groups.
    #[arg(long)]
    no_groups: bool,
    /// New endpoint. The park changes `peer.endpoint` in its configuration, too.
    #[arg(long)]
    endpoint: Option<Endpoint>,
    /// Names with their language, instead of the present ones: en=Name. Repeat for other languages.
    #[arg(long = "name", value_parser = parse_name)]
    names: Vec<(String, Text)>,
    /// Prefixes of its callback addresses besides its endpoint, instead of the present ones. Repeat for several.
    #[arg(long = "callback")]
    callbacks: Vec<Endpoint>,
}

pub fn change(args: Change, json: bool) -> Outcome {
    let given = |any: bool| any.then_some(());
    let change = MemberChange {
        groups: given(args.no_groups || !args.groups.is_empty()).map(|()| args.groups.into_iter().collect()),
        endpoint: args.endpoint,
        names: given(!args.names.is_empty()).map(|()| args.names.into_iter().collect()),
        callbacks: given(!args.callbacks.is_empty()).map(|()| args.callbacks),
    };
    let mut alliance = args.member.folder.open()?;
    let is_new = alliance.change(&args.member.member, change, SystemClock.now())?;
    let id = &args.member.member;
    match is_new {
        true => changed(&alliance, json, format_args!("{id} is changed")),
        false if !json => say!("{id} has these values already; the register stays as it is."),
        false => {}
    }
    show(&alliance, json)
}

pub fn remove(args: &Member, json: bool) -> Outcome {
    let mut alliance = args.folder.open()?;
    alliance.remove(&args.member, SystemClock.now())?;
    changed(&alliance, json, format_args!("{} is removed", args.member));
    show(&alliance, json)
}

pub fn suspend(args: Suspend, json: bool) -> Outcome {
    let mut alliance = args.member.folder.open()?;
    alliance.set_status(&args.member.member, Status::Suspended, Some(args.reason), SystemClock.now())?;
    changed(&alliance, json, format_args!("{} is suspended", args.member.member));
    show(&alliance, json)
}

pub fn reinstate(args: &Member, json: bool) -> Outcome {
    let mut alliance = args.folder.open()?;
    alliance.set_status(&args.member, Status::Active, None, SystemClock.now())?;
    changed(&alliance, json, format_args!("{} is active again", args.member));
    show(&alliance, json)
}

/// Says what a new register changes.
pub fn changed(alliance: &Alliance, json: bool, what: std::fmt::Arguments<'_>) {
    if !json {
        say!("{what} in register {}. Give it to the parks.", alliance.register().body().sequence);
    }
}
