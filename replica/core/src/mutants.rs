//! Mutants: places where one rule can be broken on purpose, so that the simulator can show that it would notice.
//!
//! Each is one line where its rule is kept. Without the feature `mutants`, [`on`] is the constant `false` and nothing
//! of them is left in the code; the product refuses to be built with it.

macro_rules! mutants {
    ($($name:ident $rule:literal $what:literal;)*) => {
        /// A way to break one rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(
            not(feature = "mutants"),
            allow(dead_code, unreachable_pub, reason = "nothing but names without the feature")
        )]
        pub enum Mutant { $(#[doc = $what] $name),* }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name),*];

            /// Its name, the rule it breaks, and what it does.
            #[must_use]
            pub fn described(self) -> (&'static str, &'static str, &'static str) {
                match self { $(Mutant::$name => (stringify!($name), $rule, $what)),* }
            }
        }
    };
}

mutants! {
    PaperRecovery "R1" "forgets at a start what it had promised: the recovery of the paper";
    VoteNotAwaited "R1" "acts on a promise before it is durable";
    WantedIsWritten "R1" "takes the word that a promise is durable for the one it would like by now";
    AnyNonce "R2" "takes an answer to an earlier start for one to this";
    LowerView "R2" "recovers into a ballot below its promise";
    AnyoneAnswers "R2" "answers as the primary of a view that has not begun";
    PromisesIgnored "R3" "owes a higher promise of another nothing";
    AmnesiacFollows "R4" "follows a primary without having its memory";
    AmnesiacVotes "R4" "changes views without having its memory";
    SyncingAcknowledges "R4" "acknowledges while it fetches what it lacks";
    CheckpointIsEvidence "R5" "takes a checkpoint for all it ever knew";
    JoinerUnasked "R6" "starts as a new replica without asking whether it was a voter before its disk was lost";
    LossDenied "R7" "never says that a quorum is lost";
    LossGuessed "R7" "says that a quorum is lost after one round of questions";
    OwnOrder "R8" "one replica has another order than the rest";
    LonelyIntent "R9" "enters a view by its own intent";
    LongestLog "R10" "begins a view with the longest log, whoever's it is";
    AlwaysNormal "R10" "counts a view it only entered as one in which it was Normal";
    FreshVote "R11" "votes anew each time it says its vote";
    MissingBodies "R11" "begins a view without the entries it lacks";
    AcksOfAllBallots "R12" "counts acknowledgements of an earlier ballot";
    LooseChain "R12" "appends what does not continue its log";
    WrongDigest "R12" "counts an acknowledgement of another log";
    TruncateFirst "R13" "cuts its log before the replacement is in hand";
    LateStart "R13" "cuts its log by a start of its own ballot that was late";
    TailKept "R13" "keeps what the new view did not take over";
    InheritedReads "R14" "serves reads before it has committed anything of its view";
    UnconfirmedReads "R14" "serves reads without asking whether it still leads";
    LeaseNotAwaited "reads" "commits in a new view before the leases of those before it have run out";
    LeaseForEver "reads" "answers reads by a lease that has run out";
    EarlierRound "R14" "lets a round that began before a read confirm it";
    SwapUnchecked "R15" "proposes a configuration in the place of another than the one in force";
    AfterTheEnd "R15" "proposes in an epoch after the entry that ends it";
    ActsWithoutLog "R16" "acts in an epoch before it has the log of those before it";
    LearnersCount "R17" "counts learners as voters";
    UnreadyPromoted "R17" "proposes voters that have not shown that they are there and up to date";
    ReleasedByOne "R18" "calls itself released once a single voter acts without it";
    EpochUntold "R18" "tells nobody who is behind of the epoch it is in";
    OrderKept "R19" "one replica goes by the old order after an order-only change";
    StaleIncarnation "R20" "listens to starts that are over";
    ForeignLineage "R20" "listens to other lineages and generations";
    RestartUnnoticed "R20" "counts what an earlier start of a peer said";
    SpanIgnored "quorum" "commits within one failure domain although two are asked for";
    MinorityCommits "quorum" "commits what one less than a majority holds";
    AheadOfCommit "commit" "executes what is not committed yet";
    EveryRequestNew "sessions" "executes a repeated request again";
    UnknownIsRejected "sessions" "says that a request whose answer is lost was not executed";
    ClockInLog "time" "logs its wall clock even if it went back";
    EarlyCertificate "cuts" "certifies a root that one replica has";
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Breaks a rule in every replica that takes its steps on this thread; `None`: keeps all of them.
    pub fn switch(mutant: Option<Mutant>) {
        ON.set(mutant);
    }

    pub(crate) fn on(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }
}
#[cfg(feature = "mutants")]
pub(crate) use switch::on;
#[cfg(feature = "mutants")]
pub use switch::switch;

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}
