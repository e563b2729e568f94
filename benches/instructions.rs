//! Does one kind of work a number of times, to be counted by valgrind: see `tests/bench-check`.
//!
//! Without arguments it names what there is; `instructions NAME TIMES` does it.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a bench is no product"
)]

mod work;

fn main() {
    // `cargo bench` hands `--bench` on to every bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, times] = arguments.as_slice() else {
        for work in work::all() {
            println!("{}", work.name);
        }
        return;
    };
    let times: u32 = times.parse().expect("a number of times");
    let mut work = work::all().into_iter().find(|work| work.name == name).expect("a name that is listed");
    for _ in 0..times {
        (work.once)();
    }
}
