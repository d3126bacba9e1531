//! Two nodes in a simulated world: time is virtual, the network loses, doubles, delays and reorders, storage fails before
//! and after it persists, and nodes die between two steps. All chance comes from one seed; a seed that fails is printed.

mod faults;
mod peer;
mod seeds;
mod tables;
mod uses;
mod world;
