//! Deterministic simulation of two nodes: time is virtual, the network loses, duplicates, delays and reorders messages,
//! writes fail before or after they persist, and nodes crash between two steps. All randomness comes from one seed,
//! which is printed when a run fails.

mod faults;
mod peer;
mod seeds;
mod tables;
mod uses;
mod world;
