//! Stories as tables, and worlds that nobody wrote.

mod blind;
mod deaths;
mod foreign;
mod objects;
mod random;
mod stories;
mod world;
