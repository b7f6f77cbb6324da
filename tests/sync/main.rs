//! Properties of the replication core and its formats: merging is a set, views are derived, packing loses nothing.

mod attributes;

use lanyard::base::{
    ContentId, FileTime, FolderId, Hlc, MeshId, NodeId, PassId, RelPath, VersionVector, Writer, path::NAME_BYTES_MAX,
};
use lanyard::logic::sync::conflict::{self, Main};
use lanyard::logic::sync::index::{EntryId, Head, PathRecord};
use lanyard::logic::sync::reconcile;
use lanyard::wire::batch::{Batch, Entry, Header, Owner, Packed, Salted, What, Xattr};
use lanyard::wire::codec::{self, Bytes, List, Text};
use proptest::collection::vec;
use proptest::prelude::*;

fn writer(n: u8) -> Writer {
    Writer { node: NodeId([n; 32]), incarnation: u64::from(n) }
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => (0..4u8).prop_map(|n| What::File { bytes: u64::from(n), content: ContentId([n; 32]) }),
        1 => Just(What::Dir),
        1 => vec(any::<u8>(), 1..40).prop_map(|target| What::Symlink(Bytes::new(target).expect("short"))),
        2 => prop::option::of(0..4u8).prop_map(|n| What::Tombstone { deleted: n.map(|n| ContentId([n; 32])) }),
    ]
}

/// A component: mostly few, so that paths share their start; at times any bytes.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd = vec(any::<u8>(), 1..60).prop_filter("a valid name", |name| {
        !name.contains(&0) && !name.contains(&b'/') && name != b"." && name != b".."
    });
    prop_oneof![4 => "[ab]{1,3}(\\.txt)?".prop_map(String::into_bytes), 1 => odd]
}

fn path() -> impl Strategy<Value = RelPath> {
    vec(name(), 1..5).prop_filter_map("a valid path", |names| RelPath::new(names.join(&b'/')).ok())
}

fn version() -> impl Strategy<Value = VersionVector> {
    vec((0..4u8, 1..5u64), 0..4).prop_map(|parts| {
        let mut version = VersionVector::default();
        parts.into_iter().for_each(|(n, number)| version.advance(writer(n), number));
        version
    })
}

prop_compose! {
    /// Any version of one path, also such as only liars make.
    fn head()(by in 0..4u8, seq in 1..5u64, base in version(), what in what(), ms in 0..4u64) -> Head {
        let id = EntryId { writer: writer(by), seq };
        let mut version = base;
        version.advance(id.writer, seq);
        let path = RelPath::new("dir/report.odt").expect("valid");
        let entry = Entry::new(path, what, 0, FileTime::default(), Hlc { ms, count: 0 }, version);
        Head { id, salted: Salted { salt: [0; 16], entry } }
    }
}

/// Heads of which no two have the same id: an entry is signed once.
fn heads() -> impl Strategy<Value = Vec<Head>> {
    vec(head(), 0..8).prop_map(|mut heads| {
        heads.sort_by_key(|head| head.id);
        heads.dedup_by_key(|head| head.id);
        heads
    })
}

fn merged(heads: impl IntoIterator<Item = Head>) -> PathRecord {
    let mut record = PathRecord::default();
    heads.into_iter().for_each(|head| {
        reconcile::merge(&mut record, head);
    });
    record
}

prop_compose! {
    fn rare()(
        previous in prop::option::of(any::<[u8; 32]>()),
        moved_from in prop::option::of(path()),
        pass in prop::option::of(any::<[u8; 16]>()),
        user in prop::option::of("[a-z]{1,12}"),
        xattrs in vec(("[a-z.]{1,20}", vec(any::<u8>(), 0..30)), 0..3),
    ) -> (Option<ContentId>, Option<RelPath>, Option<PassId>, Option<Owner>, List<Xattr, 32>) {
        let owner = user.map(|user| Owner {
            user: Text::new(user.clone()).expect("short"),
            group: Text::new(user).expect("short"),
        });
        let xattrs = xattrs
            .into_iter()
            .map(|(name, value)| Xattr {
                name: Text::new(name).expect("short"),
                value: Bytes::new(value).expect("short"),
            })
            .collect();
        (previous.map(ContentId), moved_from, pass.map(PassId), owner, List::new(xattrs).expect("few"))
    }
}

prop_compose! {
    fn salted()(
        salt in any::<[u8; 16]>(),
        path in path(),
        what in what(),
        mode in 0..=0o777u16,
        secs in any::<i64>(),
        nanos in 0..1_000_000_000u32,
        ms in any::<u64>(),
        count in any::<u32>(),
        version in version(),
        rare in prop::option::weighted(0.3, rare()),
    ) -> Salted {
        let plain = matches!(what, What::Symlink(_) | What::Tombstone { .. });
        let mode = if plain { 0 } else { mode };
        let mut entry = Entry::new(path, what, mode, FileTime { secs, nanos }, Hlc { ms, count }, version);
        if let Some((previous, moved_from, pass, owner, xattrs)) = rare {
            (entry.previous, entry.moved_from, entry.on_behalf_of) = (previous, moved_from, pass);
            (entry.owner, entry.xattrs) = (owner, xattrs);
        }
        Salted { salt, entry }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_gives_the_same_heads_in_any_order((sorted, shuffled) in heads().prop_flat_map(|heads| {
        (Just(heads.clone()), Just(heads).prop_shuffle())
    })) {
        prop_assert_eq!(merged(sorted).heads, merged(shuffled).heads);
    }

    #[test]
    fn merging_what_was_merged_changes_nothing(heads in heads()) {
        let once = merged(heads.clone());
        prop_assert_eq!(&merged(heads.iter().chain(&heads).cloned()).heads, &once.heads);
        let mut again = once.clone();
        for head in heads {
            prop_assert!(!reconcile::merge(&mut again, head));
        }
        prop_assert_eq!(again, once);
    }

    #[test]
    fn merging_in_groups_gives_the_same_heads(heads in heads(), cut in any::<prop::sample::Index>()) {
        let (left, right) = heads.split_at(cut.index(heads.len() + 1));
        let grouped = merged(merged(right.to_vec()).heads.into_iter().chain(merged(left.to_vec()).heads));
        prop_assert_eq!(grouped.heads, merged(heads).heads);
    }

    #[test]
    fn no_head_has_seen_another(heads in heads()) {
        let record = merged(heads);
        for a in &record.heads {
            for b in &record.heads {
                prop_assert!(a.id == b.id || !a.version().covers(b.version()));
            }
        }
    }

    #[test]
    fn a_view_depends_on_the_heads_alone((record, shuffled) in heads().prop_flat_map(|heads| {
        let record = merged(heads);
        (Just(record.clone()), Just(record.heads).prop_shuffle())
    }), below in any::<bool>()) {
        let other = PathRecord { heads: shuffled, ..PathRecord::default() };
        prop_assert_eq!(conflict::view(&record, below), conflict::view(&other, below));
    }

    #[test]
    fn a_view_shows_every_live_content_once(heads in heads(), below in any::<bool>()) {
        let record = merged(heads);
        let view = conflict::view(&record, below);
        for head in record.heads.iter().filter(|head| head.is_live()) {
            let named = match view.main {
                Main::Head(main) => main.what() == head.what(),
                Main::ImpliedDir => *head.what() == What::Dir,
                Main::Nothing => false,
            };
            let beside = view.losers.iter().filter(|loser| loser.what() == head.what()).count();
            let shown = usize::from(named) + beside;
            prop_assert!(shown == 1 || (shown == 0 && *head.what() == What::Dir), "{:?} {:?}", head, view);
        }
    }

    #[test]
    fn a_conflict_copy_has_a_name_of_its_own_that_fits(path in path(), loser in head()) {
        let names: Vec<RelPath> = conflict::copy_paths(&path, &loser).collect();
        for (at, name) in names.iter().enumerate() {
            prop_assert!(name != &path && !names[..at].contains(name));
            prop_assert!(name.name().expect("a name").len() <= NAME_BYTES_MAX);
            prop_assert_eq!(name.parent(), path.parent());
        }
    }

    #[test]
    fn what_is_packed_comes_out_as_it_was(entries in vec(salted(), 0..30), gaps in vec(1..5u16, 30)) {
        let places = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) });
        let numbered: Vec<(u16, Salted)> = places.zip(entries).collect();
        let packed = Packed::pack(numbered.iter().map(|(at, salted)| (*at, salted)));
        let bytes = codec::encode(&packed);
        let read: Packed = codec::decode("entries", &bytes, bytes.len()).expect("what was just written");
        let wanted: Vec<(usize, Salted)> = numbered.into_iter().map(|(at, s)| (usize::from(at), s)).collect();
        prop_assert_eq!(read.unpack().expect("sound entries"), wanted);
    }

    #[test]
    fn spoiled_entries_are_refused_or_other_entries_but_never_a_panic(
        entries in vec(salted(), 1..6), at in any::<prop::sample::Index>(), bit in 0..8u8
    ) {
        let packed = Packed::pack((0..).zip(&entries));
        let mut bytes = codec::encode(&packed);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = codec::decode::<Packed>("entries", &bytes, bytes.len())
            && let Ok(read) = read.unpack()
        {
            prop_assert!(read.len() != entries.len() || read.iter().zip(&entries).any(|((at, a), b)| a != b || entries.get(*at) != Some(a)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_holds_its_own_entries_in_their_places_and_no_others(mut entries in vec(salted(), 1..6), seed in any::<[u8; 32]>()) {
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let author = Writer { node: NodeId(key.verifying_key().to_bytes()), incarnation: 9 };
        for (number, salted) in (1..).zip(&mut entries) {
            salted.entry.version.advance(author, number);
        }
        let header = Header {
            mesh: MeshId([1; 32]),
            folder: FolderId([2; 32]),
            writer: author,
            first: 1,
            previous: None,
            heads: List::default(),
            time: Hlc::default(),
            entries: List::truncated(entries.iter().map(|s| s.entry.hash(&s.salt)).collect()),
        };
        let batch = Batch::open(Batch::sign(header, &key).signed().clone()).expect("what was just signed");
        for (place, salted) in entries.iter().enumerate() {
            for at in 0..entries.len() {
                prop_assert_eq!(batch.holds(at, salted), at == place);
            }
            let mut changed = salted.clone();
            changed.entry.time = changed.entry.time.next();
            prop_assert!(!batch.holds(place, &changed));
        }
    }
}
