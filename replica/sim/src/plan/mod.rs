//! What a seed stands for: which cluster, which load, which faults and how often.
//!
//! Every number is drawn from the seed's own stream, each fault is off in some worlds, and rare combinations come up
//! because worlds differ more from each other than one world does over time.

pub mod knobs;

use crate::rng::{Ppm, Rng, Stream, mix};
use vr_core::Options;

/// A millisecond, in the simulator's microseconds.
pub const MS: u64 = 1_000;
/// A second, in the simulator's microseconds.
pub const SECOND: u64 = 1_000 * MS;

/// Tells the seeds in whose worlds the members change.
const MOVING: u64 = 0x6d65_6d62_6572_7321;

/// Tells the seeds in whose worlds clients have sessions of their own.
const SESSIONS: u64 = 0x7365_7373_696f_6e73;

/// Tells the seeds in whose worlds clocks stand still.
const FREEZES: u64 = 0x6672_6565_7a65_7321;

/// Tells the seeds in whose worlds a commit spans failure domains.
const DOMAINS: u64 = 0x646f_6d61_696e_7321;

/// Tells the seeds in whose worlds primaries have read leases.
const LEASES: u64 = 0x6c65_6173_6573_2121;

/// Tells the seeds in whose worlds processes live on beside those that were started in their place.
const TWINS: u64 = 0x7477_696e_7321_2121;

/// Tells the seeds in whose worlds the devices that keep vote records differ.
const VOTES: u64 = 0x766f_7465_7321_2121;

/// Tells the seeds in whose worlds gateways and primaries take few bytes at a time.
const NARROWS: u64 = 0x6e61_7272_6f77_7321;

/// Tells the seeds in whose worlds the members change and a majority is lost.
const LOSSES: u64 = 0x6c6f_7373_6573_2121;

/// How much the world may take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Never more than f memories lost at once: all that was acknowledged stays, and a healed world serves again.
    Safety,
    /// A majority's memory goes: nothing may be served on as if nothing had happened.
    Loss,
}

/// Which machine is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MachineKind {
    /// [`crate::machine::Toy`].
    Toy,
    /// [`vr_store::Store`].
    Store,
    /// [`vr_example_log::Log`]: in no world unless it is asked for.
    Log,
}

/// How messages travel. Times in microseconds.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The shortest way.
    pub latency: u64,
    /// Up to this much on top.
    pub spread: u64,
    /// Never arrives.
    pub drop: Ppm,
    /// Arrives twice.
    pub duplicate: Ppm,
    /// Arrives very late.
    pub hold: Ppm,
    /// At most this late.
    pub hold_for: u64,
    /// Carries another lineage or generation.
    pub foreign: Ppm,
}

/// Mean times between faults of a kind in microseconds; 0: never.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    /// A crash with loss of memory.
    pub crash: u64,
    /// A stop that keeps everything.
    pub clean_stop: u64,
    /// A process stands still.
    pub pause: u64,
    /// Two groups.
    pub partition: u64,
    /// Dead directions.
    pub one_way: u64,
    /// A link that stalls.
    pub clog: u64,
    /// The wall clock of one process moves.
    pub wall_jump: u64,
    /// A false alarm about a connection.
    pub peer_lost: u64,
    /// The clocks of one machine stand still.
    pub freeze: u64,
    /// A process that is taken for dead lives on, per crash.
    pub twin: Ppm,
    /// A tier wants a cut.
    pub cut: u64,
    /// A process that is down comes back after at most this.
    pub down_for: u64,
    /// Crash while a vote is in flight, per order to write one.
    pub crash_voting: Ppm,
    /// Crash between two effects of a step, per step with several.
    pub crash_mid_step: Ppm,
    /// Crash before the recovery has ended, per message received in it.
    pub crash_recovering: Ppm,
    /// Peers of a crashed process notice at once.
    pub peers_notice: Ppm,
    /// In [`Mode::Loss`]: when the majority goes, from the beginning.
    pub majority_at: u64,
}

/// How disks behave. Times in microseconds.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// The quickest vote.
    pub vote: u64,
    /// Up to this much on top.
    pub vote_spread: u64,
    /// This vote takes up to a hundred times longer.
    pub slow_vote: Ppm,
    /// A vote in flight at a crash is durable all the same.
    pub landed: Ppm,
    /// One of the two devices has lost its newest record, or all of them, per start.
    pub one_vote: Ppm,
    /// A cut becomes a checkpoint on disk.
    pub checkpoint: Ppm,
    /// A start without memory finds its newest checkpoint.
    pub from_checkpoint: Ppm,
    /// At most this long until the root of a cut is known.
    pub root_delay: u64,
}

/// How the members change. Mean times in microseconds; 0: never.
#[derive(Clone, Debug, Default)]
pub struct MembersPlan {
    /// New replicas that may join, one after the other.
    pub spares: usize,
    /// Another configuration is proposed.
    pub propose: u64,
    /// The primary is asked to let another lead.
    pub hand_off: u64,
    /// A replica loses its disk, and its vote record with it.
    pub lose_disk: u64,
    /// Those who left stay connected to for this long.
    pub remember: u64,
    /// How many failure domains a commit must span two of; it need not where there are none.
    pub domains: u64,
    /// How long a primary may read by one confirmation.
    pub read_lease: u64,
}

/// What clients do. Times in microseconds.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// How many there are; each waits for its answer.
    pub clients: usize,
    /// How many have sessions of their own, and ask again until they are answered.
    pub sessions: usize,
    /// Up to this long between an answer and the next question.
    pub think: u64,
    /// After this they turn to another replica.
    pub patience: u64,
    /// How many questions are reads.
    pub reads: Ppm,
    /// Keys they use.
    pub keys: u64,
    /// Bytes on top of the smallest request, at most.
    pub padding: u64,
}

/// A rule that the world itself, in the driver's place, breaks: so that the oracles can show their teeth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Sabotage {
    /// A crash also loses the vote record: the paper's recovery.
    ForgetVotes,
    /// Votes are called durable before they are.
    EarlyVotes,
    /// A start without memory claims to have all.
    ClaimComplete,
    /// One replica executes something else now and then.
    CorruptExecution,
    /// Clients that read are shown a cell as it was before anything was written.
    EmptyReads,
    /// The marker of a clean stop is not erased by the start that uses it.
    MarkerKept,
    /// A start does not write a new incarnation.
    SameIncarnation,
    /// A start believes the first device that has a vote record.
    FirstVote,
}

/// A whole world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything came from.
    pub seed: u64,
    /// How much may be taken away.
    pub mode: Mode,
    /// How many members.
    pub replicas: usize,
    /// What they replicate.
    pub machine: MachineKind,
    /// The core's options.
    pub options: Options,
    /// How long faults last, from the beginning.
    pub faulty: u64,
    /// How long a healed world may take until all is well.
    pub healing: u64,
    /// Messages.
    pub network: NetworkPlan,
    /// Faults.
    pub faults: FaultPlan,
    /// Disks.
    pub disks: DiskPlan,
    /// Load.
    pub load: LoadPlan,
    /// Members.
    pub members: MembersPlan,
    /// At most this much drift of each monotonic clock.
    pub drift: Ppm,
    /// Up to this long until a process ends its loop turn.
    pub turn: u64,
    /// The first member in the order has a window of 1: it turns away what the others forward.
    pub narrow_first: bool,
    /// A broken rule; none in a sweep.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// The world of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed, Stream::Plan);
        let moving = mix(seed ^ MOVING).is_multiple_of(3);
        let lossy = rng.chance(Ppm(150_000)) && !moving;
        let mode = if lossy { Mode::Loss } else { Mode::Safety };
        let replicas = rng.pick(&[1, 3, 3, 3, 3, 3, 3, 5, 5]);
        let heartbeat = rng.pick(&[10, 20, 50]) * MS;
        let view_timeout = heartbeat * rng.between(4, 10);
        let faulty = rng.between(1500, 5000) * MS;
        let options = Options {
            heartbeat,
            view_timeout,
            retry: heartbeat * rng.between(1, 4),
            batch_bytes: rng.pick(&[200, 2_000, 64 * 1024]),
            pipeline: rng.pick(&[1, 2, 4, 8]),
            window: rng.pick(&[2, 16, 256]),
            window_bytes: 1 << 20,
            log_bytes: rng.pick(&[1_000, 5_000, 20_000, 1 << 20]),
            portion_bytes: [100, 2_000, 128 << 10][(seed % 3) as usize],
        };
        let mut plan = Plan {
            seed,
            mode,
            replicas,
            // By the number alone: what else a seed stands for does not depend on the machine.
            machine: if seed % 3 == 2 { MachineKind::Store } else { MachineKind::Toy },
            options,
            faulty,
            healing: 60 * SECOND,
            network: network(rng, view_timeout),
            faults: faults(rng, mode, view_timeout, faulty),
            disks: DiskPlan {
                vote: rng.pick(&[0, 100, 1_000]),
                vote_spread: rng.pick(&[100, 5 * MS, 50 * MS]),
                slow_vote: maybe(rng, 50_000),
                landed: Ppm(rng.pick(&[0, 500_000, 1_000_000])),
                one_vote: Ppm(0),
                checkpoint: Ppm(rng.pick(&[200_000, 1_000_000])),
                from_checkpoint: Ppm(rng.pick(&[0, 500_000, 1_000_000])),
                root_delay: rng.pick(&[MS, 20 * MS, SECOND]),
            },
            load: LoadPlan {
                clients: rng.pick(&[1, 3, 8, 24]),
                // By the number alone, too.
                sessions: (mix(seed ^ SESSIONS) % 12).saturating_sub(8) as usize,
                think: rng.pick(&[2, 20, 100]) * MS,
                patience: view_timeout * rng.between(1, 20),
                reads: Ppm(rng.pick(&[0, 300_000, 600_000])),
                keys: rng.pick(&[1, 8, 64]),
                padding: rng.pick(&[0, 100, 1_000]),
            },
            members: if moving { members(seed, faulty) } else { MembersPlan::default() },
            drift: Ppm(rng.pick(&[0, 1_000, 50_000])),
            turn: rng.pick(&[0, 100, 2 * MS]),
            narrow_first: rng.chance(Ppm(100_000)),
            sabotage: None,
        };
        plan.add_later_faults(moving);
        plan
    }

    /// Faults that came to the others later: by the number alone, so that all else that a seed stands for stays.
    fn add_later_faults(&mut self, moving: bool) {
        let drawn = |of: u64| mix(self.seed ^ of);
        if drawn(FREEZES).is_multiple_of(4) {
            self.faults.freeze = self.faulty / (2 + drawn(FREEZES) / 4 % 8);
        }
        if drawn(DOMAINS).is_multiple_of(8) && self.replicas > 1 {
            self.members.domains = 2 + drawn(DOMAINS) / 8 % 2;
            // Whoever loses a whole domain for good commits nothing more.
            self.members.lose_disk = 0;
        }
        if drawn(LEASES).is_multiple_of(6) {
            self.members.read_lease = self.options.view_timeout * (1 + drawn(LEASES) / 6 % 3) / 2;
            // What leases rest on.
            self.faults.freeze = 0;
        }
        if drawn(NARROWS).is_multiple_of(8) {
            self.options.window_bytes = 1 << (4 + drawn(NARROWS) / 8 % 5);
        }
        if drawn(TWINS).is_multiple_of(4) {
            self.faults.twin = Ppm(300_000);
        }
        if drawn(VOTES).is_multiple_of(4) {
            self.disks.one_vote = Ppm(400_000);
        }
        if moving && drawn(LOSSES).is_multiple_of(8) {
            self.mode = Mode::Loss;
            self.faults.majority_at = self.faulty / 10 + drawn(LOSSES) / 8 % (self.faulty * 9 / 10);
            self.members.lose_disk = 0;
        }
    }

    /// The same world around the given machine, if one is given.
    #[must_use]
    pub fn around(self, machine: Option<MachineKind>) -> Plan {
        Plan { machine: machine.unwrap_or(self.machine), ..self }
    }

    /// Whether the world breaks this rule.
    #[must_use]
    pub fn breaks(&self, rule: Sabotage) -> bool {
        self.sabotage == Some(rule)
    }

    /// A calm world of three for scenarios written by hand: nothing happens that is not asked for.
    #[must_use]
    pub fn calm(seed: u64) -> Plan {
        let mut plan = Plan::of(seed);
        plan.mode = Mode::Safety;
        plan.replicas = 3;
        plan.options = Options {
            heartbeat: 20 * MS,
            view_timeout: 200 * MS,
            retry: 50 * MS,
            batch_bytes: 64 * 1024,
            pipeline: 8,
            window: 64,
            window_bytes: 1 << 20,
            log_bytes: 1 << 20,
            portion_bytes: 128 << 10,
        };
        plan.faulty = u64::MAX / 4;
        plan.network = NetworkPlan {
            latency: 100,
            spread: 0,
            hold_for: 0,
            drop: Ppm(0),
            duplicate: Ppm(0),
            hold: Ppm(0),
            foreign: Ppm(0),
        };
        plan.faults = FaultPlan {
            crash: 0,
            clean_stop: 0,
            pause: 0,
            partition: 0,
            one_way: 0,
            clog: 0,
            wall_jump: 0,
            peer_lost: 0,
            freeze: 0,
            twin: Ppm(0),
            cut: 0,
            down_for: MS,
            crash_voting: Ppm(0),
            crash_mid_step: Ppm(0),
            crash_recovering: Ppm(0),
            peers_notice: Ppm(0),
            majority_at: 0,
        };
        plan.disks = DiskPlan {
            vote: 100,
            vote_spread: 0,
            slow_vote: Ppm(0),
            landed: Ppm(0),
            one_vote: Ppm(0),
            checkpoint: Ppm(0),
            from_checkpoint: Ppm(0),
            root_delay: MS,
        };
        plan.members = MembersPlan::default();
        plan.load = LoadPlan {
            clients: 0,
            sessions: 0,
            think: MS,
            patience: SECOND,
            reads: Ppm(0),
            keys: 8,
            padding: 0,
        };
        plan.drift = Ppm(0);
        plan.turn = 0;
        plan.narrow_first = false;
        plan
    }
}

/// Off in half of the worlds, else up to `most`.
fn maybe(rng: &mut Rng, most: u64) -> Ppm {
    match rng.below(2) {
        0 => Ppm(0),
        _ => Ppm(rng.between(most / 100, most) as u32),
    }
}

/// Off in half of the worlds, else a mean interval that fits a few to many into the faulty time.
fn every(rng: &mut Rng, faulty: u64) -> u64 {
    match rng.below(2) {
        0 => 0,
        _ => faulty / rng.between(1, 16),
    }
}

/// Members that change, in streams of their own: worlds whose members stay do not depend on them.
fn members(seed: u64, faulty: u64) -> MembersPlan {
    let rng = &mut Rng::new(seed, Stream::Members);
    MembersPlan {
        spares: rng.pick(&[0, 1, 2, 3]),
        propose: faulty / rng.between(2, 24),
        hand_off: every(rng, faulty),
        lose_disk: every(rng, faulty),
        remember: rng.pick(&[0, 10 * MS, SECOND, u64::MAX]),
        domains: 0,
        read_lease: 0,
    }
}

fn network(rng: &mut Rng, view_timeout: u64) -> NetworkPlan {
    NetworkPlan {
        latency: rng.pick(&[20, 100, 500, 2_000]),
        spread: rng.pick(&[10, 200, 2_000, view_timeout / 2]),
        drop: maybe(rng, 100_000),
        duplicate: maybe(rng, 100_000),
        hold: maybe(rng, 30_000),
        hold_for: view_timeout * rng.pick(&[1, 5, 20]),
        foreign: maybe(rng, 2_000),
    }
}

fn faults(rng: &mut Rng, mode: Mode, view_timeout: u64, faulty: u64) -> FaultPlan {
    FaultPlan {
        crash: every(rng, faulty),
        clean_stop: every(rng, faulty),
        pause: every(rng, faulty),
        partition: every(rng, faulty),
        one_way: every(rng, faulty),
        clog: every(rng, faulty),
        wall_jump: every(rng, faulty),
        peer_lost: every(rng, faulty),
        freeze: 0,
        twin: Ppm(0),
        cut: every(rng, faulty),
        down_for: view_timeout * rng.pick(&[1, 3, 10]),
        crash_voting: maybe(rng, 200_000),
        crash_mid_step: maybe(rng, 2_000),
        crash_recovering: maybe(rng, 50_000),
        peers_notice: Ppm(rng.pick(&[0, 500_000, 1_000_000])),
        majority_at: match mode {
            Mode::Safety => 0,
            Mode::Loss => rng.between(faulty / 10, faulty),
        },
    }
}
