//! Mutants: places where one promise of the tiers can be broken on purpose, so that the simulator can show that it would
//! notice. As those of `vr-core`: without the feature `mutants` nothing of them is left in the code.

macro_rules! mutants {
    ($($name:ident $fault:literal $what:literal;)*) => {
        /// A way to break one promise.
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

            /// Its name, the fault that shows it, and what it does.
            #[must_use]
            pub fn described(self) -> (&'static str, &'static str, &'static str) {
                match self { $(Mutant::$name => (stringify!($name), $fault, $what)),* }
            }
        }
    };
}

mutants! {
    FilesUnsynced "power" "calls a file durable that was not synced";
    NamesUnsynced "power" "calls a name durable that was not synced";
    HeadUnsynced "power" "calls HEAD durable before its name is";
    TornHead "torn" "takes a HEAD whose checksum is wrong";
    AnyHead "torn" "takes the first of the two HEADs of a disk that is whole";
    OlderHeadOverlooked "rot" "ships log on from a HEAD that has been lost";
    CreateBelieved "timeout" "takes a creation of unknown outcome for done";
    SwapBelieved "timeout" "takes a swap of HEAD of unknown outcome for done";
    DeniedSwapBelieved "412" "takes a swap of HEAD that another writer won for done";
    ReliesOnGone "two writers" "moves HEAD without asking whether it still holds what the checkpoint relies on";
    FenceIgnored "two writers" "writes although HEAD is of a later generation";
    GraceIgnored "two writers" "collects what another writer has only just shipped";
    OldestSwept "collection" "collects what only older retained checkpoints need";
    LogSwept "collection" "collects the log that leads on from a retained checkpoint";
    DamageForgotten "rot" "goes on relying on a pack that was found damaged";
    SegmentUnchecked "rot" "takes a segment of the log whose checksum is wrong";
    ManifestUnchecked "rot" "takes a manifest that does not hash to what it says";
    GapsOverlooked "missing" "lets the log reach beyond a gap";
    AbandonedCounts "restore" "restores what an earlier restore has abandoned";
    ReservationForgotten "restore" "restores without the reservation that stands in HEAD";
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Breaks a promise in everything that this thread does; `None`: keeps all of them.
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
