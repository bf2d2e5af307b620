//! What a drill found out ([`report`]), signed ([`envelope`]) and chained ([`chain`]), so that somebody who was not there
//! can tell years later that it was so, and that no drill was left out in between.
//!
//! Whoever has the signing key can sign anything: the chain tells that nothing was changed or taken away since, not that
//! whoever signed was honest.

pub mod chain;
pub mod envelope;
pub mod report;
