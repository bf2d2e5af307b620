//! The disk does to what was not synced what it says, and nothing to the rest.

use super::*;

fn write(disk: &VolatileDisk, path: &str, body: &[u8]) -> Box<dyn NewFile> {
    let mut file = disk.create(Path::new(path), 0).expect("creates");
    file.write(body).expect("writes");
    file
}

#[test]
fn what_was_not_synced_may_go_and_what_was_stays() {
    let root = Path::new("/");
    let disk = VolatileDisk::new();
    write(&disk, "/a", b"both").sync().expect("syncs");
    disk.sync_folder(root).expect("syncs");
    write(&disk, "/b", b"contents").sync().expect("syncs");
    drop(write(&disk, "/c", b"name"));
    let name = disk.fork();
    name.sync_folder(root).expect("syncs");
    disk.lose_power(Fate::Lost);
    let left = |disk: &VolatileDisk| disk.entries(root).expect("a folder").len();
    assert_eq!((left(&disk), disk.read(Path::new("/a")).expect("kept")), (1, b"both".to_vec()));
    name.lose_power(Fate::Lost);
    assert_eq!((left(&name), name.read(Path::new("/b")).expect("kept")), (3, b"contents".to_vec()));
    assert_eq!(name.read(Path::new("/c")).expect("the name"), b"");
}

#[test]
fn any_part_survives_and_the_same_for_the_same_seed() {
    let disk = VolatileDisk::new();
    drop(write(&disk, "/a", &[7; 2000]));
    disk.link(Path::new("/a"), Path::new("/b")).expect("links");
    let outcome = |seed| {
        let disk = disk.fork();
        disk.lose_power(Fate::Torn(seed));
        ["/a", "/b"].map(|path| disk.read(Path::new(path)).ok())
    };
    let all: std::collections::BTreeSet<_> = (0..200).map(outcome).collect();
    assert!(all.len() > 10 && all.contains(&[None, None]), "{} outcomes", all.len());
    assert!(all.contains(&[Some(vec![7; 2000]), Some(vec![7; 2000])]));
    assert_eq!(outcome(3), outcome(3));
}

#[test]
fn a_strike_comes_once_where_it_was_planned() {
    let disk = VolatileDisk::new();
    disk.strike_at(2, Strike::Stop);
    let mut file = disk.create(Path::new("/a"), 0).expect("the first");
    file.write(b"abcd").expect_err("the second");
    file.sync().expect_err("there is no process");
    assert_eq!(disk.struck().expect("it did"), "Stop at write /a");
    disk.restart();
    assert_eq!(disk.read(Path::new("/a")).expect("there"), b"ab");
    disk.strike_at(1, Strike::FailAfter);
    disk.remove(Path::new("/a")).expect_err("says so");
    assert_eq!(disk.look(Path::new("/a")).expect("looks"), None);
    // What has no room still takes what makes nothing.
    disk.strike_at(1, Strike::NoSpace);
    disk.sync_folder(Path::new("/")).expect("needs no room");
    let full = disk.create_folder(Path::new("/b")).expect_err("needs room");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_file_whose_sync_failed_is_lost() {
    let disk = VolatileDisk::new();
    let file = write(&disk, "/a", b"abcd");
    disk.sync_folder(Path::new("/")).expect("syncs");
    disk.strike_at(1, Strike::Fail);
    file.sync().expect_err("planned");
    disk.lose_power(Fate::Lost);
    assert_eq!(disk.read(Path::new("/a")).expect("its name"), b"");
}

#[test]
fn a_disk_that_lies_loses_what_it_has_called_durable() {
    let (root, disk) = (Path::new("/"), VolatileDisk::new());
    write(&disk, "/a", b"honest").sync().expect("syncs");
    disk.sync_folder(root).expect("syncs");
    disk.lie(true);
    write(&disk, "/b", b"a lie").sync().expect("says so");
    disk.sync_folder(root).expect("says so");
    assert_eq!(disk.read(Path::new("/b")).expect("as long as there is power"), b"a lie");
    disk.lose_power(Fate::Lost);
    disk.lie(false);
    assert!(disk.read(Path::new("/b")).is_err());
    assert_eq!(disk.read(Path::new("/a")).expect("kept"), b"honest");
    disk.strike_at(1, Strike::Fail);
    disk.spare();
    write(&disk, "/b", b"honest").sync().expect("nothing is planned any more");
}
