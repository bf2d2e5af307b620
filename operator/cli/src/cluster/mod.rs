//! A running cluster from the terminal: how it is, who is a member, who leads; and changing the two.
//!
//! Everything goes to the replicas' control ports. Each change is one reconfiguration that names the configuration it
//! was made from, so two people (or a person and the operator) cannot undo each other unknowingly.

pub mod edit;
pub mod member;
pub mod order;
pub mod page;
pub mod quorum;
pub mod status;
pub mod view;
