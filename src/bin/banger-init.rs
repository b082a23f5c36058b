//! The init of the guest's initrd. All of it is in `banger::guest::init`.

fn main() {
    banger::guest::init::main();
}
