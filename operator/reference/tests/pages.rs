//! `docs/reference` is what the code says.

use std::path::Path;

#[test]
fn the_pages_are_what_the_code_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let write = std::env::var_os("VR_WRITE_REFERENCE").is_some();
    for (name, text) in vr_reference::pages() {
        let path = folder.join(name);
        if write {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the page can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "docs/reference/{name} is not what the code says: \
             VR_WRITE_REFERENCE=1 cargo test -p vr-reference --test pages writes it"
        );
    }
    let files = std::fs::read_dir(&folder).expect("the folder is there").count();
    assert_eq!(files, vr_reference::pages().len(), "a file in docs/reference belongs to no page");
}
