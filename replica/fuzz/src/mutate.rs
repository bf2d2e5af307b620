//! How an input is changed: the mistakes of disks, wires and forgers, a few of them at a time.

/// A sequence of numbers that is the same for the same seed (SplitMix64, Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

/// Inputs do not grow beyond this: what is long is slow, and no decoder treats the second megabyte differently.
const MAX_BYTES: usize = 1 << 20;

/// Numbers at which lengths and counts go wrong.
const EDGES: [u64; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Changes `input` in one to four places; `other` is another input of the same kind to take pieces from.
pub fn mutate(dice: &mut Dice, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        match dice.below(9) {
            0 => flip(dice, input, at),
            1 => overwrite(input, at, &[dice.roll() as u8]),
            2 => overwrite(input, at, &EDGES[dice.below(EDGES.len())].to_le_bytes()[..4]),
            3 => overwrite(input, at, &EDGES[dice.below(EDGES.len())].to_le_bytes()),
            4 => input.truncate(at),
            5 => drop(input.drain(at..at + dice.below(input.len() - at + 1).min(64))),
            6 => {
                let piece = input[at..(at + dice.below(64)).min(input.len())].to_vec();
                insert(input, at, &piece);
            }
            7 => {
                let from = dice.below(other.len() + 1);
                let piece = &other[from..(from + dice.below(256)).min(other.len())];
                insert(input, at, piece);
            }
            _ => {
                let piece: Vec<u8> = (0..dice.below(16)).map(|_| dice.roll() as u8).collect();
                insert(input, at, &piece);
            }
        }
    }
    input.truncate(MAX_BYTES);
}

fn flip(dice: &mut Dice, input: &mut [u8], at: usize) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    input[at..].iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}
