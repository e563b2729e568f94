//! Breadth first, each world once: the first way to a breach that is found is a shortest one.

use std::{
    collections::{HashSet, VecDeque},
    fmt::{self, Write},
    hash::{DefaultHasher, Hasher},
    rc::Rc,
    sync::Arc,
};

use greenroom::errors::SessionError;

use crate::{
    checks,
    world::{Move, World},
};

/// What a search has found.
pub(crate) struct Report {
    pub(crate) worlds: usize,
    pub(crate) moves: usize,
    breach: Option<String>,
}

impl Report {
    pub(crate) fn assert_sound(&self) {
        if let Some(breach) = &self.breach {
            panic!("{breach}");
        }
    }
}

/// The moves that led to a world, latest first.
struct Way {
    step: Move,
    before: Option<Rc<Self>>,
}

pub(crate) fn search(start: World, errors: &[Arc<SessionError>]) -> Report {
    let mut seen = HashSet::from([print_of(&start)]);
    let mut moves = 0;
    let mut open = VecDeque::from([(start, None::<Rc<Way>>)]);
    while let Some((world, way)) = open.pop_front() {
        for step in world.moves(errors) {
            moves += 1;
            let mut next = world.clone();
            next.make(&step);
            let way = Rc::new(Way { step, before: way.clone() });
            if let Some(breach) = checks::breach(&next) {
                let breach = format!("{breach}\n{}\n{:?}", told(&way), next.seats);
                return Report { worlds: seen.len(), moves, breach: Some(breach) };
            }
            if seen.insert(print_of(&next)) {
                open.push_back((next, Some(way)));
            }
        }
    }
    Report { worlds: seen.len(), moves, breach: None }
}

fn told(way: &Way) -> String {
    let mut steps = vec![format!("{:?}", way.step)];
    let mut before = way.before.as_ref();
    while let Some(step) = before {
        steps.push(format!("{:?}", step.step));
        before = step.before.as_ref();
    }
    steps.reverse();
    steps.join("\n")
}

/// Two hashes of everything that a world is, so that no two worlds are taken for one.
fn print_of(world: &World) -> (u64, u64) {
    let mut print = Print { one: DefaultHasher::new(), other: DefaultHasher::new() };
    print.other.write_u8(1);
    write!(print, "{world:?}").unwrap();
    (print.one.finish(), print.other.finish())
}

struct Print {
    one: DefaultHasher,
    other: DefaultHasher,
}

impl Write for Print {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.one.write(text.as_bytes());
        self.other.write(text.as_bytes());
        Ok(())
    }
}
