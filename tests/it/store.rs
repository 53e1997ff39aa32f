//! The contract of a store, asked of every backend there is.

use std::os::unix::fs::PermissionsExt;

use sps::image::{Digest, DiskFormat, ImageId, Seal};
use sps::store::{LocalStore, OpenOptions, Store};

/// Runs a case against a new store of each kind.
fn each(case: impl Fn(&dyn Store)) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(&directory.path().join("s"), OpenOptions::default());
    case(&store.expect("a store"));
}

fn stage(store: &dyn Store, bytes: &[u8]) -> (ImageId, Seal) {
    let id = ImageId::random();
    let file = store.stage(id).expect("staged");
    file.write_at(0, bytes).expect("written");
    store.sync(&file).expect("durable");
    let seal = Seal {
        digest: Digest::from_bytes(*blake3::hash(bytes).as_bytes()),
        size_bytes: bytes.len() as u64,
        allocated_bytes: 0,
        format: DiskFormat::Raw,
        virtual_size_bytes: None,
    };
    (id, seal)
}

#[test]
fn what_is_staged_and_sealed_is_read_by_its_digest() {
    each(|store| {
        let (id, seal) = stage(store, b"data");
        assert!(store.stage(id).is_err(), "there is one already");
        assert!(store.open(&seal.digest).is_err(), "not sealed yet");
        store.seal(id, &seal).expect("sealed");
        let mut found = [0; 9];
        let file = store.open(&seal.digest).expect("there");
        assert_eq!(file.read_at(0, &mut found).expect("readable"), 4);
        assert_eq!(&found[..4], b"data");
        assert!(store.staged(id).expect("readable").is_none());
        store.drop_sealed(&seal.digest).expect("dropped");
        store.drop_sealed(&seal.digest).expect("harmless");
        assert_eq!(file.read_at(0, &mut found).expect("still readable"), 4);
    });
}

#[test]
fn the_same_content_is_kept_once_and_sealing_twice_is_harmless() {
    each(|store| {
        let (first, seal) = stage(store, b"same");
        let (second, _) = stage(store, b"same");
        store.seal(first, &seal).expect("sealed");
        store.seal(first, &seal).expect("harmless");
        store.seal(second, &seal).expect("sealed");
        let mut count = 0;
        store
            .each_sealed(&mut |digest| {
                assert_eq!(digest, seal.digest);
                count += 1;
                Ok(())
            })
            .expect("listed");
        assert_eq!(count, 1);
        assert!(store.staged(second).expect("readable").is_none());
    });
}

#[test]
fn strays_in_staging_are_dropped_and_others_kept() {
    each(|store| {
        let (kept, _) = stage(store, b"kept");
        let (stray, _) = stage(store, b"stray");
        assert_eq!(store.discard_strays(&|id| id == kept).expect("dropped"), 1);
        assert!(store.staged(kept).expect("readable").is_some());
        assert!(store.staged(stray).expect("readable").is_none());
        store.discard(kept).expect("dropped");
        store.discard(kept).expect("harmless");
    });
}

#[test]
fn manifests_are_replaced_whole_and_dropped() {
    each(|store| {
        let id = ImageId::random();
        let all = || {
            let mut found = Vec::new();
            store
                .each_manifest(&mut |_, text| {
                    found.push(text.to_owned());
                    Ok(())
                })
                .expect("listed");
            found
        };
        store.put_manifest(id, "one").expect("written");
        store.put_manifest(id, "two").expect("written");
        assert_eq!(all(), ["two"]);
        store.drop_manifest(id).expect("dropped");
        store.drop_manifest(id).expect("harmless");
        assert!(all().is_empty());
    });
}

#[test]
fn sealed_data_is_read_only_and_the_store_is_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("s");
    let store = LocalStore::open(&root, OpenOptions::default()).expect("a store");
    let (id, seal) = stage(&store, b"data");
    store.seal(id, &seal).expect("sealed");
    let digest = seal.digest.to_string();
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o7777
    };
    assert_eq!(mode(&root.join("blobs").join(&digest[..2]).join(&digest)), 0o400);
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("blobs")), 0o700);
}
