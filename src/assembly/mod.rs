//! Assembles a node from its configuration and folder, and runs it.

mod assemble;
mod error;
mod folder;
mod identity;
mod log_check;
mod refresh;
mod reload;
mod run;

pub use assemble::{Assembled, Overrides, WrapStore, assemble, open_store};
pub use error::AssemblyError;
pub use folder::{files, load_root, load_trust, lock, lock_keys};
pub use identity::{LogSigner, OwnKeys, certificate_path, own_entry, signing_key, signing_key_of};
pub use log_check::is_unsettled;
pub use reload::Reloader;
