//! The operations of the sequences, and how often each is drawn.

use proptest::prelude::*;

use super::SOURCES;
use crate::model::spec::{ROOT, UNUSABLE};
use crate::support::ALICE;

const STEPS_MAX: usize = 24;

/// Few, so that they are taken often.
pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Who asks: the numbers are drawn, and mostly it is root.
pub(super) const ACTORS: [u32; 5] = [ROOT, ROOT, ROOT, ROOT, ALICE];

/// One operation. Whom it is about is drawn as a number, and taken from those that are there.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create { name: usize, is_staging: bool, actor: usize, mode: usize },
    Replace { pick: usize, actor: usize },
    Remake { pick: usize },
    Open { pick: usize, actor: usize },
    Write { pick: usize, offset: usize, length: usize, letter: u8 },
    Truncate { pick: usize, size: usize },
    Vote { pick: usize },
    Fail { pick: usize },
    Close { pick: usize },
    Publish { name: usize, length: usize, letter: u8, actor: usize },
    Rename { pick: usize, name: usize, no_replace: bool, actor: usize },
    Move { pick: usize, to: usize, name: Option<usize>, no_replace: bool, actor: usize },
    Import { pick: usize },
    Unlink { pick: usize, actor: usize },
    Mode { pick: usize, mode: usize },
    Tags { pick: usize, tag: u8, actor: usize },
    Declare { pick: usize, size: Option<u64>, letter: Option<u8>, actor: usize },
    Locate { name: usize, source: usize },
    AddLocation { pick: usize, source: usize },
    Reopen { pick: usize },
    Withdraw { pick: usize },
    Restart,
    Crash,
}

pub(super) const MODES: [u32; 5] = [0o644, 0o600, 0o666, 0o1644, 0o640];
pub(super) const OFFSETS: [usize; 4] = [0, 0, 700, 6_000];
pub(super) const LENGTHS: [usize; 4] = [1, 700, 4_096, 9_000];

pub(super) fn step() -> impl Strategy<Value = Step> {
    let (pick, name, actor) = (0..64usize, 0..NAMES.len(), 0..ACTORS.len());
    let (mode, letter) = (0..MODES.len(), 0..4u8);
    let length = prop::sample::select(LENGTHS.to_vec());
    let offset = prop::sample::select(OFFSETS.to_vec());
    let size = prop::sample::select(vec![0usize, 0, 1, 700, 8_000]);
    let maybe = prop::bool::weighted(0.15);
    prop_oneof![
        4 => (name.clone(), prop::bool::weighted(0.4), actor.clone(), mode.clone())
            .prop_map(|(name, is_staging, actor, mode)| Step::Create { name, is_staging, actor, mode }),
        2 => (pick.clone(), actor.clone()).prop_map(|(pick, actor)| Step::Replace { pick, actor }),
        1 => pick.clone().prop_map(|pick| Step::Remake { pick }),
        3 => (pick.clone(), actor.clone()).prop_map(|(pick, actor)| Step::Open { pick, actor }),
        8 => (pick.clone(), offset, length.clone(), letter.clone())
            .prop_map(|(pick, offset, length, letter)| Step::Write { pick, offset, length, letter }),
        3 => (pick.clone(), size).prop_map(|(pick, size)| Step::Truncate { pick, size }),
        5 => pick.clone().prop_map(|pick| Step::Vote { pick }),
        2 => pick.clone().prop_map(|pick| Step::Fail { pick }),
        6 => pick.clone().prop_map(|pick| Step::Close { pick }),
        6 => (name.clone(), length, letter, actor.clone())
            .prop_map(|(name, length, letter, actor)| Step::Publish { name, length, letter, actor }),
        6 => (pick.clone(), name.clone(), maybe, actor.clone())
            .prop_map(|(pick, name, no_replace, actor)| Step::Rename { pick, name, no_replace, actor }),
        9 => (pick.clone(), 0..64usize, prop::option::weighted(0.4, name.clone()), maybe, actor.clone())
            .prop_map(|(pick, to, name, no_replace, actor)| {
                Step::Move { pick, to, name, no_replace, actor }
            }),
        3 => pick.clone().prop_map(|pick| Step::Import { pick }),
        5 => (pick.clone(), actor.clone()).prop_map(|(pick, actor)| Step::Unlink { pick, actor }),
        3 => (pick.clone(), mode).prop_map(|(pick, mode)| Step::Mode { pick, mode }),
        1 => (pick.clone(), 0..3u8, actor.clone())
            .prop_map(|(pick, tag, actor)| Step::Tags { pick, tag, actor }),
        2 => (pick.clone(), prop::option::of(prop::sample::select(vec![0u64, 700, 4_096])),
              prop::option::weighted(0.3, 0..2u8), actor)
            .prop_map(|(pick, size, letter, actor)| Step::Declare { pick, size, letter, actor }),
        2 => (name, 0..SOURCES.len()).prop_map(|(name, source)| Step::Locate { name, source }),
        2 => (pick.clone(), 0..SOURCES.len())
            .prop_map(|(pick, source)| Step::AddLocation { pick, source }),
        2 => pick.clone().prop_map(|pick| Step::Reopen { pick }),
        2 => pick.prop_map(|pick| Step::Withdraw { pick }),
        2 => Just(Step::Restart),
        2 => Just(Step::Crash),
    ]
}

/// Bytes by a letter: the last one is of what nobody may use.
pub(super) fn bytes(letter: u8, length: usize) -> Vec<u8> {
    if letter == 3 {
        let mark = UNUSABLE.iter().copied().chain(std::iter::repeat(b'q'));
        return mark.take(length.max(4)).collect();
    }
    vec![b'a' + letter; length]
}

pub(super) fn sequence() -> impl Strategy<Value = (bool, bool, Vec<Step>)> {
    let steps = prop::collection::vec(step(), 1..STEPS_MAX);
    (prop::bool::weighted(0.85), prop::bool::weighted(0.2), steps)
}
