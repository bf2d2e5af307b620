//! The only source of chance in a simulated world: xoshiro256** seeded through SplitMix64.
//!
//! Each concern draws from a stream of its own, so that a change in how often the network draws does not move the
//! moment of a crash. Not for secrets.

/// Who draws; each gets numbers that do not depend on how many the others took.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Stream {
    /// What kind of world the seed stands for.
    Plan = 1,
    /// Fates and delays of messages.
    Network = 2,
    /// When which process suffers what.
    Faults = 3,
    /// What clients ask, where and when.
    Clients = 4,
    /// How long writes take and which are lost.
    Disks = 5,
    /// Loop turns and timer lateness of processes, and the randomness handed to the core.
    Processes = 6,
    /// How often members change in the worlds where they do.
    Members = 7,
    /// What operators ask for, and where.
    Operators = 8,
    /// Processes that live on beside those that were started in their place.
    Twins = 9,
    /// What the devices still hold that keep vote records.
    Votes = 10,
}

/// Parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ppm(pub u32);

/// A generator; the same seed and stream give the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng {
    s: [u64; 4],
}

/// One step of SplitMix64, also used as a hash of 64 bits.
#[must_use]
pub fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The generator of one stream of one seed.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Rng {
        let base = mix(seed) ^ mix((stream as u64) << 32);
        Rng { s: [mix(base), mix(base ^ 1), mix(base ^ 2), mix(base ^ 3)] }
    }

    /// 64 random bits.
    #[allow(
        clippy::should_implement_trait,
        reason = "an endless generator is no iterator that one would map over"
    )]
    pub fn next(&mut self) -> u64 {
        let s = &mut self.s;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, which is at least 1. (Multiply and shift: the bias is below 2^-32 for small bounds.)
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "a choice needs at least one possibility");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Whether something of this probability happens now. Draws only if it can go both ways.
    pub fn chance(&mut self, ppm: Ppm) -> bool {
        match ppm.0 {
            0 => false,
            p if p >= 1_000_000 => true,
            p => self.below(1_000_000) < u64::from(p),
        }
    }

    /// One of `options`, which is not empty.
    pub fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.index(options.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let take = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.next(), rng.next(), rng.next()]
        };
        assert_eq!(take(7, Stream::Network), take(7, Stream::Network));
        assert_ne!(take(7, Stream::Network), take(7, Stream::Faults));
        assert_ne!(take(7, Stream::Network), take(8, Stream::Network));
    }

    #[test]
    fn chances_are_about_right() {
        let mut rng = Rng::new(1, Stream::Plan);
        let hits = (0..100_000).filter(|_| rng.chance(Ppm(250_000))).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!(!(0..1000).any(|_| rng.chance(Ppm(0))));
        assert!((0..1000).all(|_| rng.chance(Ppm(1_000_000))));
        assert!((0..1000).all(|_| (3..=5).contains(&rng.between(3, 5))));
    }
}
