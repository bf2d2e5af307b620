//! The numbers of a plan by name, so that a world can be told, tried and repeated with some of them changed.

use super::Plan;
use crate::rng::Ppm;

/// A number of a plan.
#[derive(Clone, Copy)]
pub struct Knob {
    /// Its name on the command line.
    pub name: &'static str,
    /// The smallest value that makes sense.
    pub least: u64,
    read: fn(&Plan) -> u64,
    write: fn(&mut Plan, u64),
}

impl Knob {
    /// All of them, those first that take most away.
    pub const ALL: &'static [Knob] = KNOBS;

    /// The knob of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Knob> {
        KNOBS.iter().copied().find(|knob| knob.name == name)
    }

    /// Its value in a plan.
    #[must_use]
    pub fn of(self, plan: &Plan) -> u64 {
        (self.read)(plan)
    }

    /// The plan with another value, at least [`Knob::least`].
    #[must_use]
    pub fn set(self, plan: &Plan, value: u64) -> Plan {
        let mut plan = plan.clone();
        (self.write)(&mut plan, value.max(self.least));
        plan
    }
}

macro_rules! knobs {
    ($($name:literal $least:literal $kind:ident $($field:ident).+;)*) => {
        const KNOBS: &[Knob] = &[$(Knob {
            name: $name,
            least: $least,
            read: |plan| knobs!(@read $kind plan.$($field).+),
            write: |plan, value| plan.$($field).+ = knobs!(@write $kind value),
        }),*];
    };
    (@read number $($value:tt)+) => { $($value)+ };
    (@read count $($value:tt)+) => { $($value)+ as u64 };
    (@read ppm $($value:tt)+) => { u64::from($($value)+.0) };
    (@write number $value:ident) => { $value };
    (@write count $value:ident) => { usize::try_from($value).unwrap_or(usize::MAX) };
    (@write ppm $value:ident) => { Ppm(u32::try_from($value).unwrap_or(u32::MAX)) };
}

knobs! {
    "faulty" 1 number faulty;
    "replicas" 1 count replicas;
    "clients" 0 count load.clients;
    "sessions" 0 count load.sessions;
    "crash" 0 number faults.crash;
    "clean-stop" 0 number faults.clean_stop;
    "pause" 0 number faults.pause;
    "partition" 0 number faults.partition;
    "one-way" 0 number faults.one_way;
    "clog" 0 number faults.clog;
    "wall-jump" 0 number faults.wall_jump;
    "peer-lost" 0 number faults.peer_lost;
    "freeze" 0 number faults.freeze;
    "twin" 0 ppm faults.twin;
    "cut" 0 number faults.cut;
    "crash-voting" 0 ppm faults.crash_voting;
    "crash-mid-step" 0 ppm faults.crash_mid_step;
    "crash-recovering" 0 ppm faults.crash_recovering;
    "peers-notice" 0 ppm faults.peers_notice;
    "majority-at" 0 number faults.majority_at;
    "spares" 0 count members.spares;
    "propose" 0 number members.propose;
    "hand-off" 0 number members.hand_off;
    "lose-disk" 0 number members.lose_disk;
    "remember" 0 number members.remember;
    "domains" 0 number members.domains;
    "read-lease" 0 number members.read_lease;
    "drop" 0 ppm network.drop;
    "duplicate" 0 ppm network.duplicate;
    "hold" 0 ppm network.hold;
    "foreign" 0 ppm network.foreign;
    "spread" 0 number network.spread;
    "reads" 0 ppm load.reads;
    "keys" 1 number load.keys;
    "padding" 0 number load.padding;
    "slow-vote" 0 ppm disks.slow_vote;
    "landed" 0 ppm disks.landed;
    "one-vote" 0 ppm disks.one_vote;
    "checkpoint" 0 ppm disks.checkpoint;
    "from-checkpoint" 0 ppm disks.from_checkpoint;
    "vote-spread" 0 number disks.vote_spread;
    "root-delay" 0 number disks.root_delay;
    "drift" 0 ppm drift;
    "turn" 0 number turn;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_changes_its_own_number_only() {
        let plan = Plan::of(1);
        for knob in Knob::ALL {
            let changed = knob.set(&plan, knob.of(&plan) + 1);
            assert_eq!(knob.of(&changed), knob.of(&plan) + 1, "{}", knob.name);
            assert!(knob.of(&knob.set(&plan, 0)) == knob.least, "{}", knob.name);
            for other in Knob::ALL.iter().filter(|other| other.name != knob.name) {
                assert_eq!(other.of(&changed), other.of(&plan), "{} moved {}", knob.name, other.name);
            }
            assert_eq!(Knob::named(knob.name).map(|found| found.name), Some(knob.name));
        }
    }
}
