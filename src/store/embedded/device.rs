//! The file as redb sees it: the real one, and a look at it that changes nothing.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

use crate::store::fault::{self, point};

/// The file itself. The lock is held by whoever opened it, and outlasts a database that is closed and opened anew.
#[derive(Debug)]
pub(super) struct Device(pub(super) Arc<File>);

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fault::at(point::DISK_GROW)?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        fault::at(point::DISK_SYNC)?;
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fault::at(point::DISK_WRITE)?;
        self.0.write_all_at(data, offset)
    }
}

/// Writes the whole file over itself and syncs it.
///
/// After a failed sync the system may hold pages for clean that never reached the disk: they read as written, and
/// a later sync that succeeds does not bring them there. Written again, they count as dirty again.
pub(super) fn write_again(file: &File) -> io::Result<()> {
    /// Large enough to be quick, small enough to be no matter for memory.
    const CHUNK: usize = 1024 * 1024;
    let (length, mut offset) = (file.metadata()?.len(), 0);
    let mut chunk = vec![0; CHUNK];
    while offset < length {
        let read = file.read_at(&mut chunk, offset)?;
        let Some(bytes @ [_, ..]) = chunk.get(..read) else { break };
        fault::at(point::DISK_WRITE)?;
        file.write_all_at(bytes, offset)?;
        offset += read as u64;
    }
    fault::at(point::DISK_SYNC)?;
    file.sync_data()
}

/// The file with changes that stay in memory.
///
/// redb repairs a file that was not closed, and so changes it, before anybody can look into it. Here the repair
/// and the look happen without a byte written, so that a file which is damaged, foreign or too new stays as it is.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Arc<File>,
    state: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    length: u64,
    /// How much of the file still shows: what was cut off reads as zeros when it is grown again.
    shown: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

const BLOCK: u64 = 4096;
/// The most memory for changes. A repair writes little; a migration writes every record once.
const MAX_CHANGED: usize = 256 * 1024 * 1024;

impl Overlay {
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(Changed { length, shown: length, blocks: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, Changed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changed {
    /// The block as the file has it.
    fn shown_block(&self, file: &File, number: u64) -> io::Result<Box<[u8]>> {
        let mut block = vec![0; BLOCK as usize].into_boxed_slice();
        let start = number * BLOCK;
        let shown = usize::try_from(self.shown.saturating_sub(start).min(BLOCK)).unwrap_or_default();
        if let Some(part) = block.get_mut(..shown) {
            file.read_exact_at(part, start)?;
        }
        Ok(block)
    }

    /// Calls `each` with the parts of `length` bytes from `offset` on: the block, where in it, and where in the whole.
    fn parts(
        offset: u64,
        length: usize,
        mut each: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let inside = usize::try_from(at % BLOCK).unwrap_or_default();
            let count = (BLOCK as usize - inside).min(length - done);
            each(at / BLOCK, inside, done..done + count)?;
            done += count;
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.saturating_add(out.len() as u64) > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = out.len();
        Changed::parts(offset, length, |number, inside, whole| {
            let read;
            let block = match state.blocks.get(&number) {
                Some(block) => block,
                None => {
                    read = state.shown_block(&self.file, number)?;
                    &read
                }
            };
            let count = whole.len();
            match (out.get_mut(whole), block.get(inside..inside + count)) {
                (Some(to), Some(from)) => to.copy_from_slice(from),
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len < state.length {
            state.shown = state.shown.min(len);
            state.blocks.split_off(&len.div_ceil(BLOCK));
            let inside = usize::try_from(len % BLOCK).unwrap_or_default();
            if let Some(cut) = state.blocks.get_mut(&(len / BLOCK)).and_then(|block| block.get_mut(inside..))
            {
                cut.fill(0);
            }
        }
        state.length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if offset.saturating_add(data.len() as u64) > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Changed::parts(offset, data.len(), |number, inside, whole| {
            if !state.blocks.contains_key(&number) {
                if state.blocks.len() * BLOCK as usize >= MAX_CHANGED {
                    return Err(io::Error::other(
                        "the repair or migration changes too much to be tried first",
                    ));
                }
                let block = state.shown_block(&self.file, number)?;
                state.blocks.insert(number, block);
            }
            let count = whole.len();
            let block = state.blocks.get_mut(&number).and_then(|block| block.get_mut(inside..inside + count));
            match (block, data.get(whole)) {
                (Some(to), Some(from)) => to.copy_from_slice(from),
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Length(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..20_000, prop::collection::vec(any::<u8>(), 1..9000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0_u64..24_000).prop_map(Step::Length),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_overlay_reads_as_a_file_would_and_leaves_the_file_alone(steps in prop::collection::vec(step(), 1..20)) {
            let original: Vec<u8> = (0..10_000_u32).map(|number| number.to_le_bytes()[0] | 1).collect();
            let (file, twin) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempfile().unwrap());
            std::fs::write(file.path(), &original).unwrap();
            twin.write_all_at(&original, 0).unwrap();
            let overlay = Overlay::new(Arc::new(File::open(file.path()).unwrap())).unwrap();
            let twin = Device(Arc::new(twin));
            for step in steps {
                match step {
                    Step::Length(length) => {
                        overlay.set_len(length).unwrap();
                        twin.set_len(length).unwrap();
                    }
                    Step::Write(at, data) if at + data.len() as u64 <= twin.len().unwrap() => {
                        overlay.write(at, &data).unwrap();
                        twin.write(at, &data).unwrap();
                    }
                    Step::Write(at, data) => prop_assert!(overlay.write(at, &data).is_err()),
                }
                let length = usize::try_from(twin.len().unwrap()).unwrap();
                prop_assert_eq!(overlay.len().unwrap(), length as u64);
                let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
                overlay.read(0, &mut ours).unwrap();
                twin.read(0, &mut theirs).unwrap();
                prop_assert!(ours == theirs);
                prop_assert!(overlay.read(1, &mut ours).is_err() || length == 0);
            }
            prop_assert!(std::fs::read(file.path()).unwrap() == original);
        }
    }
}
