//! How the systems that people use today fail at this, and the test here that shows it does not happen.

use std::path::{Path, PathBuf};

/// What happens elsewhere, what comes of it here, and the test that shows it.
const LESSONS: &[(&str, &str, &str)] = &[
    (
        "process killed mid-upload: saving for ever",
        "killed at restart, space reclaimed",
        "a_daemon_killed_mid_upload_leaves_the_image_killed_and_its_space_free",
    ),
    (
        "import fails: the image stays importing, retry refused",
        "back to queued, staging reclaimed, retry works",
        "an_import_that_fails_leaves_the_image_queued_with_the_reason_and_can_be_tried_again",
    ),
    (
        "process dies in an import: task processing for ever",
        "tried again, three times, then failure",
        "a_task_whose_executor_dies_is_tried_three_times_and_then_fails",
    ),
    (
        "delete while saving: the upload runs to its end",
        "the next write fails",
        "the_writer_of_a_removed_image_is_cut_off_at_its_next_write_and_at_close",
    ),
    (
        "undelete: status says active, the data's location is gone",
        "image, data, names and properties as before",
        "what_was_removed_is_restored_to_where_it_came_from_with_all_it_had",
    ),
    (
        "purge of old rows loses the only pointer to data",
        "data is freed with its record, never before",
        "a_daemon_killed_behind_any_effect_of_any_verb_leaves_a_store_that_is_true",
    ),
    (
        "deactivated image deleted with delayed delete on: refused",
        "pending_delete, restore gives deactivated",
        "what_was_removed_is_restored_to_where_it_came_from_with_all_it_had",
    ),
    (
        "tasks in one process, nothing persisted",
        "in the registry",
        "a_file_in_pending_is_a_task_that_moves_by_itself_and_shows_its_record",
    ),
    (
        "quota exceeded with size unknown: image stuck in saving",
        "killed, EDQUOT from write or close",
        "of_sixteen_writers_with_room_for_ten_ten_images_are_active_and_six_killed",
    ),
    (
        "DB lost: files named by id, nothing else",
        "rebuilt from manifests",
        "a_registry_that_is_lost_is_made_again_from_the_manifests",
    ),
    (
        "format check fails: the data stays, retry fails",
        "killed, data reclaimed",
        "an_image_that_reaches_outside_itself_is_killed_with_the_reason_and_its_data_is_gone",
    ),
    (
        "qcow2 with a data file or backing file, vmdk extents: host files readable",
        "refused at the vote",
        "an_image_that_reaches_outside_itself_is_killed_with_the_reason_and_its_data_is_gone",
    ),
    (
        "last location removed, then another upload: one id, two contents",
        "the digest of an id is for ever",
        "an_id_that_lost_its_location_takes_the_same_content_only",
    ),
    (
        "a writer that is killed publishes a truncated object",
        "killed, with the reason",
        "every_writer_into_active_has_its_outcome",
    ),
    (
        "a writer that closes and exits with an error publishes, too",
        "deactivated, with the exit status",
        "a_writer_that_fails_right_after_its_close_has_its_image_withdrawn",
    ),
    (
        "commit in FLUSH breaks echo, dup, fork; commit in RELEASE loses errors",
        "a vote at FLUSH, a commit at RELEASE",
        "data_written_after_a_vote_withdraws_it_and_belongs_to_the_image",
    ),
    (
        "rsync, mv and qemu-img fail for want of rename or reopen",
        "they work",
        "qemu_img_convert_ends_with_one_active_image_and_nothing_else",
    ),
    (
        "is it uploaded yet? can't be answered from the mount",
        "ls and STATUS say so",
        "right_after_close_every_way_of_looking_sees_the_outcome",
    ),
    (
        "dirty data is lost at unmount",
        "umount drains",
        "umount_waits_for_an_upload_and_names_who_keeps_it",
    ),
    (
        "the daemon dies: Transport endpoint is not connected",
        "the next mount clears it",
        "a_dead_mount_is_cleared_by_mount_and_by_umount",
    ),
];

fn has_test(folder: &Path, name: &str) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder of tests");
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return has_test(&path, name);
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.contains(&format!("#[test]\nfn {name}()"))
    })
}

#[test]
fn each_lesson_has_its_test() {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    for (elsewhere, here, name) in LESSONS {
        assert!(has_test(&tests, name), "{elsewhere}; here: {here}; but there is no test {name}");
    }
}
