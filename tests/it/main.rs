//! Tests of complete nodes: real processes, real TLS, real SQLite files.

mod access;
mod api;
mod backup;
mod cli;
mod clocks;
mod conflicts;
mod disk;
mod dsp;
mod edc;
mod find;
mod ends;
mod enrolment;
mod exchange;
mod harness;
mod hostile;
mod keys;
mod kills;
mod load;
mod operator;
mod publishing;
mod release;
mod seeing;
mod sim;
mod syscalls;
mod texts;
mod tidy;
