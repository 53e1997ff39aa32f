//! What the mount does when something is wrong with itself.

use crate::support::Sandbox;

// semantics: panic-is-eio
#[test]
fn a_panic_is_eio_to_one_caller_and_the_mount_lives_on() {
    let sandbox = Sandbox::unmounted(&[]);
    assert!(sandbox.mount_failing_at("request.look_up=panic"));
    for _ in 0..40 {
        // More often than there are threads that read requests.
        sandbox.fails("stat $M/active/x", "Input/output error");
    }
    sandbox.ok("stat $M > /dev/null");
    assert!(sandbox.log().contains("internal fault in lookup"), "{}", sandbox.log());
    sandbox.umount();
    sandbox.audit();
}
