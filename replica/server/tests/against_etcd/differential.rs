//! Random operations, one after the other, to a reference and to another server.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::watch_request::RequestUnion;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::dice::Dice;
use crate::generate::{self, World};
use crate::server;
use crate::watch::{self, Stream};

/// Seeds that every run of the tests goes through.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Operations of a seed.
const STEPS: usize = 1_500;
/// Watch streams open at once.
const STREAMS: usize = 3;

/// The same watch stream on both sides.
struct Pair {
    requests: Vec<pb::WatchCreateRequest>,
    reference: Stream,
    other: Stream,
    /// The highest revision that a watcher of it starts at.
    starts: i64,
}

/// One run of one seed.
struct Run<'a> {
    reference: &'a Client,
    other: &'a Client,
    world: World,
    streams: Vec<Pair>,
    /// For these etcd answers a hash that it took while it removed what they made unreachable, and we do not.
    compactions: BTreeSet<i64>,
    /// How often each kind of answer was seen: a run that only ever saw errors has proven little.
    succeeded: usize,
    refused: usize,
    events: usize,
}

impl<'a> Run<'a> {
    fn new(reference: &'a Client, other: &'a Client) -> Run<'a> {
        let world = World { revision: 1, compacted: 0 };
        Run {
            reference,
            other,
            world,
            streams: Vec::new(),
            compactions: BTreeSet::new(),
            succeeded: 0,
            refused: 0,
            events: 0,
        }
    }

    /// Sends `call` to both.
    async fn call(&mut self, call: &Call) -> Result<(), String> {
        if matches!(call, Call::HashKv(request) if self.compactions.contains(&request.revision)) {
            return Ok(());
        }
        let (theirs, ours) = tokio::join!(self.reference.call(call), self.other.call(call));
        if theirs != ours {
            return Err(different(call, &theirs, &ours));
        }
        match &theirs {
            Answer::Refused { .. } => self.refused += 1,
            _ => self.succeeded += 1,
        }
        // Reads at an old revision name the current one as well.
        self.world.revision = self.world.revision.max(theirs.revision().unwrap_or_default());
        if let (Call::Compact(request), Answer::Compact(_)) = (call, &theirs) {
            self.world.compacted = request.revision;
            self.compactions.insert(request.revision);
        }
        Ok(())
    }

    async fn step(&mut self, dice: &mut Dice) -> Result<(), String> {
        match dice.below(200) {
            0..4 if self.streams.len() < STREAMS => self.open(dice).await,
            4..6 if !self.streams.is_empty() => {
                let place = dice.below(self.streams.len());
                self.catch_up().await?;
                self.streams.remove(place);
                Ok(())
            }
            6..8 => {
                // What a watcher has not seen by then, it may never see: not a matter for comparison.
                self.catch_up().await?;
                self.call(&generate::compaction(dice, self.world)).await
            }
            8 => self.refused_watches(dice).await,
            9 => self.call(&Call::HashKv(pb::HashKvRequest { revision: 0 })).await,
            _ => self.call(&generate::call(dice, self.world)).await,
        }
    }

    /// Opens a watch stream with a few watchers on both sides.
    async fn open(&mut self, dice: &mut Dice) -> Result<(), String> {
        let mut requests: Vec<_> =
            (0..=dice.below(4)).map(|_| generate::watch(dice, self.world)).filter(valid).collect();
        // Progress is only ever told on a stream that has a watcher.
        requests.push(pb::WatchCreateRequest { key: "tick".into(), ..Default::default() });
        let starts = requests.iter().map(|r| r.start_revision).max().unwrap_or_default();
        let wire: Vec<_> = requests.iter().cloned().map(RequestUnion::CreateRequest).collect();
        let reference = Stream::open(self.reference, &wire).await?;
        let other = Stream::open(self.other, &wire).await?;
        // A watcher from now on starts when it is created: before the next write.
        for stream in [&reference, &other] {
            let all = requests.len();
            stream
                .wait("answer to every creation", |seen| seen.iter().filter(|r| r.created).count() >= all)
                .await?;
        }
        self.streams.push(Pair { requests, reference, other, starts });
        Ok(())
    }

    /// Waits until all watchers have seen everything, and compares what they were told.
    async fn catch_up(&mut self) -> Result<(), String> {
        let starts = self.streams.iter().map(|pair| pair.starts).max().unwrap_or_default();
        while self.world.revision < starts {
            self.call(&Call::put("tick", "", 0)).await?;
        }
        for pair in &self.streams {
            let revision = self.world.revision;
            let created = pair.requests.len();
            let (theirs, ours) = tokio::join!(
                pair.reference.told_up_to(created, revision),
                pair.other.told_up_to(created, revision)
            );
            let (theirs, ours) = (theirs?, ours?);
            self.events += theirs.values().map(Vec::len).sum::<usize>();
            if let Some(difference) = watch::difference(&theirs, &ours) {
                return Err(format!("watch stream with\n{:#?}\n{difference}", pair.requests));
            }
        }
        Ok(())
    }

    /// Watches that cannot be, and cancellations.
    async fn refused_watches(&mut self, dice: &mut Dice) -> Result<(), String> {
        let everything =
            pb::WatchCreateRequest { key: "a".into(), range_end: "b".into(), ..Default::default() };
        let create = |request: pb::WatchCreateRequest| RequestUnion::CreateRequest(request);
        let cancel = |watch_id| RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
        let (requests, answers) = match dice.below(5) {
            0 if self.world.compacted > 1 => {
                let start_revision = dice.between(1, self.world.compacted - 1);
                (vec![create(pb::WatchCreateRequest { start_revision, ..everything })], 2)
            }
            0 | 1 => (vec![create(pb::WatchCreateRequest { start_revision: -1, ..everything })], 1),
            2 => {
                let range_end = if dice.chance(50) { "a".into() } else { "A".into() };
                (vec![create(pb::WatchCreateRequest { range_end, ..everything })], 1)
            }
            3 => {
                let named = pb::WatchCreateRequest { watch_id: dice.between(1, 9), ..everything };
                (vec![create(named.clone()), create(named)], 2)
            }
            // The unknown one has no answer: the cancellation of the second shows that it was passed over.
            _ => {
                let second = pb::WatchCreateRequest { watch_id: 5, ..everything.clone() };
                (vec![create(everything), cancel(77), create(second), cancel(5), cancel(0)], 4)
            }
        };
        let reference = Stream::open(self.reference, &requests).await?;
        let other = Stream::open(self.other, &requests).await?;
        reference.wait("answers to all watch requests", |seen| seen.len() >= answers).await?;
        other.wait("answers to all watch requests", |seen| seen.len() >= answers).await?;
        match watch::difference(&reference.told()?, &other.told()?) {
            None => Ok(()),
            Some(difference) => Err(format!("watch stream with\n{requests:#?}\n{difference}")),
        }
    }

    /// Everything once more, at the end: contents, history, leases.
    async fn finish(&mut self) -> Result<(), String> {
        self.catch_up().await?;
        self.call(&Call::everything()).await?;
        self.call(&Call::Leases(pb::LeaseLeasesRequest {})).await?;
        for revision in self.world.compacted.max(1)..=self.world.revision {
            if revision % 7 == 0 {
                self.call(&Call::HashKv(pb::HashKvRequest { revision })).await?;
            }
        }
        self.call(&Call::HashKv(pb::HashKvRequest { revision: 0 })).await
    }
}

/// Whether a stream of several may hold it: one that is refused or canceled stops progress on the whole stream of etcd.
fn valid(request: &pb::WatchCreateRequest) -> bool {
    let end = &request.range_end;
    end.is_empty() || end[..] == [0] || request.key < *end
}

fn different(call: &Call, theirs: &Answer, ours: &Answer) -> String {
    let (theirs, ours) = (format!("{theirs:#?}"), format!("{ours:#?}"));
    let mut text = format!("{call:#?}\n");
    let first = theirs.lines().zip(ours.lines()).position(|(a, b)| a != b).unwrap_or_default();
    let part =
        |text: &str| text.lines().skip(first.saturating_sub(6)).take(24).collect::<Vec<_>>().join("\n");
    let _ = write!(
        text,
        "the answers differ from line {first} on\n--- etcd\n{}\n--- other\n{}",
        part(&theirs),
        part(&ours)
    );
    text
}

/// Runs one seed; the first difference, if there is one.
async fn run(reference: &Client, other: &Client, seed: u64, steps: usize) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut run = Run::new(reference, other);
    for step in 0..steps {
        run.step(&mut dice).await.map_err(|problem| {
            format!(
                "seed {seed}, step {step}: {problem}\nTo repeat: \
                 VR_SEED={seed} VR_STEPS={} cargo test -p vr-replica --test against_etcd",
                step + 1
            )
        })?;
    }
    run.finish().await.map_err(|problem| format!("seed {seed}, after {steps} steps: {problem}"))?;
    println!(
        "seed {seed}: {steps} steps up to revision {}; {} answers, {} refusals and {} watch items are the same",
        run.world.revision, run.succeeded, run.refused, run.events
    );
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn seeds() -> Vec<u64> {
    number("VR_SEED").map_or_else(|| SEEDS.to_vec(), |seed| vec![seed])
}

fn steps() -> usize {
    number("VR_STEPS").map_or(STEPS, |steps| usize::try_from(steps).expect("64 bits"))
}

#[tokio::test]
async fn a_replica_answers_as_etcd_does() {
    let Some(binary) = server::binary("VR_ETCD", "etcd") else { return };
    for seed in seeds() {
        let reference = server::etcd(&binary).await;
        let other = server::replicas(1).await;
        if let Err(problem) = run(&reference.client, &other[0].client, seed, steps()).await {
            panic!("{problem}");
        }
    }
}

/// Without this the test above could be red for reasons of its own.
#[tokio::test]
async fn two_etcds_answer_alike() {
    let Some(binary) = server::binary("VR_ETCD", "etcd") else { return };
    for seed in seeds() {
        let (reference, other) = (server::etcd(&binary).await, server::etcd(&binary).await);
        if let Err(problem) = run(&reference.client, &other.client, seed, steps() / 3).await {
            panic!("{problem}");
        }
    }
}

/// Without this it could be green for ever.
#[tokio::test]
async fn one_value_that_differs_is_found() {
    let Some(binary) = server::binary("VR_ETCD", "etcd") else { return };
    let (reference, other) = (server::etcd(&binary).await, server::etcd(&binary).await);
    reference.client.call(&Call::put("seldom read", "as it was", 0)).await;
    other.client.call(&Call::put("seldom read", "as it is not", 0)).await;
    let found = run(&reference.client, &other.client, 4, 50).await.expect_err("the stores differ");
    assert!(found.contains("the answers differ") || found.contains("watch stream with"), "{found}");
}
