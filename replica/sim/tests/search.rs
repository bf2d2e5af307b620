//! The exhaustive search: it finds what the paper's recovery loses, and nothing that this core does.

use vr_sim::search::{Bounds, Found, search};

const BOUNDS: Bounds = Bounds {
    timeouts: 1,
    crashes: 1,
    writes: 1,
    changes: 0,
    overtakes: 0,
    steps: 9,
    standings: false,
    slow_votes: false,
    without_votes: false,
    #[cfg(feature = "mutants")]
    mutant: None,
};

fn clean(found: &Found) {
    assert!(found.broken.is_none(), "{:?}", found.broken);
}

#[test]
fn the_recovery_of_the_paper_loses_a_write_in_ten_steps() {
    let found = search(&Bounds { timeouts: 2, steps: 12, without_votes: true, ..BOUNDS }, 2);
    let (broken, story) = found.broken.expect("an acknowledged write is lost");
    assert_eq!(broken.oracle, "leader-has-all");
    assert_eq!((found.depth, story.len()), (10, 11), "{}", story.join("\n"));
    let wide: Vec<_> = story[..10].iter().map(|line| line.chars().count()).collect();
    assert!(wide.iter().all(|&chars| (95..=105).contains(&chars)), "{wide:?}");
    assert!(story[4].contains("R2 crashes") && story[7].contains("R0 client writes"), "{}", story.join("\n"));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md"));
    let trace: String = story.iter().map(|line| line.trim_end().to_owned() + "\n").collect();
    assert!(page.expect("it is there").contains(&trace), "docs/protocol.md shows another one:\n{trace}");
}

#[test]
fn with_the_vote_record_nothing_is_lost() {
    let found = search(&Bounds { timeouts: 2, steps: 10, ..BOUNDS }, 2);
    clean(&found);
    assert!(found.states > 50_000 && !found.exhausted, "{found:?}");
}

#[test]
fn small_bounds_are_exhausted() {
    let found = search(&Bounds { crashes: 0, steps: 40, ..BOUNDS }, 2);
    clean(&found);
    assert!(found.exhausted && found.states > 500, "{found:?}");
}

#[test]
fn slow_disks_overtaking_messages_and_standings_add_states_and_break_nothing() {
    let few = Bounds { steps: 7, ..BOUNDS };
    let plain = search(&few, 2);
    clean(&plain);
    for more in [
        Bounds { overtakes: 1, ..few.clone() },
        Bounds { slow_votes: true, timeouts: 2, ..few.clone() },
        Bounds { standings: true, ..few.clone() },
    ] {
        let found = search(&more, 2);
        clean(&found);
        assert!(found.states > plain.states, "{more:?}: {} against {}", found.states, plain.states);
    }
}

#[test]
fn members_that_change_lose_nothing() {
    for more in [
        Bounds { changes: 1, steps: 8, ..BOUNDS },
        Bounds { changes: 2, crashes: 0, steps: 9, ..BOUNDS },
        Bounds { changes: 1, slow_votes: true, writes: 0, ..BOUNDS },
    ] {
        let found = search(&more, 2);
        clean(&found);
        assert!(found.states > 50_000, "{more:?}: {} states", found.states);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let bounds = Bounds { timeouts: 2, without_votes: true, steps: 12, ..BOUNDS };
    let (one, two) = (search(&bounds, 1), search(&bounds, 2));
    assert_eq!((one.states, one.steps, one.depth), (two.states, two.steps, two.depth));
    assert_eq!(one.broken.map(|(_, story)| story), two.broken.map(|(_, story)| story));
}
