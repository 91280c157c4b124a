//! The hot set over a store that counts what it is asked, and that fails, hangs and forgets on command.

mod answers;
mod coherence;
mod failures;
mod races;
mod reading;
mod repository;
mod slowness;
mod watched_store;
