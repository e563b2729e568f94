//! What every kind of store promises.

use std::sync::Arc;

use bytes::Bytes;
use greenroom::store::{
    Batch, Change, Embedded, Entry, Event, Expect, Key, Memory, News, Prefix, Range, Revision, Store,
    StoreError,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{everything, key, open};

struct Kinds {
    _directory: tempfile::TempDir,
    stores: [Arc<dyn Store>; 2],
}

/// One of each kind, empty.
fn kinds() -> Kinds {
    let directory = tempfile::tempdir().unwrap();
    let embedded: Embedded = open(&directory.path().join("store.redb")).unwrap();
    Kinds { _directory: directory, stores: [Arc::new(Memory::new()), Arc::new(embedded)] }
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn keys(store: &dyn Store, range: &Range) -> (Vec<String>, Option<Key>) {
    let page = store.list(range).await.unwrap();
    (page.entries.iter().map(|entry| entry.key.to_string()).collect(), page.next)
}

#[tokio::test]
async fn a_record_reads_back_with_the_revision_that_wrote_it() {
    for store in kinds().stores {
        assert_eq!(store.get(&key("a")).await, Ok(None));
        let first = store.put(key("a"), value("1")).await.unwrap();
        let second = store.put(key("b"), Bytes::new()).await.unwrap();
        assert!(second > first);
        let entry = Entry { key: key("a"), revision: first, value: value("1") };
        assert_eq!(store.get(&key("a")).await, Ok(Some(entry)));
        let empty = Entry { key: key("b"), revision: second, value: Bytes::new() };
        assert_eq!(store.get(&key("b")).await, Ok(Some(empty)));
    }
}

#[tokio::test]
async fn a_record_is_written_only_where_it_is_what_was_expected() {
    for store in kinds().stores {
        let put = |expect, text| store.compare_and_put(key("a"), expect, value(text));
        let conflict = |found| Err(StoreError::Conflict { key: key("a"), found });
        assert_eq!(put(Expect::At(Revision(1)), "0").await, conflict(None));
        let first = put(Expect::Absent, "1").await.unwrap();
        assert_eq!(put(Expect::Absent, "2").await, conflict(Some(first)));
        let second = put(Expect::At(first), "2").await.unwrap();
        assert_eq!(put(Expect::At(first), "3").await, conflict(Some(second)));
        assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, value("2"));
        let delete = |expect| store.compare_and_delete(key("a"), expect);
        assert_eq!(delete(Expect::At(first)).await, conflict(Some(second)));
        delete(Expect::At(second)).await.unwrap();
        assert_eq!(store.get(&key("a")).await, Ok(None));
        put(Expect::Absent, "4").await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_is_written_as_a_whole_or_not_at_all() {
    for store in kinds().stores {
        store.put(key("a"), value("1")).await.unwrap();
        let batch = || Batch::new().put(key("b"), "2").delete(key("a")).put(key("c"), "3");
        let refused = store.commit(batch().only_if(key("c"), Expect::At(Revision(9)))).await;
        assert_eq!(refused, Err(StoreError::Conflict { key: key("c"), found: None }));
        assert_eq!(keys(&*store, &Range::first(Prefix::new(""))).await.0, ["a"]);
        let revision = store.commit(batch().only_if(key("c"), Expect::Absent)).await.unwrap();
        let page = everything(&*store, "").await;
        assert!(page.entries.iter().all(|entry| entry.revision == revision), "{page:?}");
        assert_eq!(keys(&*store, &Range::first(Prefix::new(""))).await.0, ["b", "c"]);
    }
}

#[tokio::test]
async fn a_batch_is_written_though_nobody_waits_for_the_answer() {
    for store in kinds().stores {
        drop(store.put(key("a"), value("1")));
        store.put(key("b"), value("2")).await.unwrap();
        assert_eq!(everything(&*store, "").await.entries.len(), 2);
    }
}

#[tokio::test]
async fn of_two_changes_of_a_record_the_later_one_wins() {
    for store in kinds().stores {
        let batch = Batch::new().put(key("a"), "1").put(key("a"), "2").put(key("b"), "1").delete(key("b"));
        store.commit(batch).await.unwrap();
        assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, value("2"));
        assert_eq!(store.get(&key("b")).await, Ok(None));
    }
}

#[tokio::test]
async fn a_prefix_is_listed_page_by_page_each_record_once() {
    for store in kinds().stores {
        for name in ["p", "p/1", "p/2", "p/3", "p/30", "p/4", "q/1", "o/9"] {
            store.put(key(name), value(name)).await.unwrap();
        }
        let mut range = Range { prefix: Prefix::new("p/"), after: None, limit: 2 };
        let mut pages = Vec::new();
        loop {
            let (names, next) = keys(&*store, &range).await;
            pages.push(names);
            match next {
                Some(next) => range.after = Some(next),
                None => break,
            }
        }
        assert_eq!(pages, [vec!["p/1", "p/2"], vec!["p/3", "p/30"], vec!["p/4"]]);
        let none = Range::first(Prefix::new("p/5"));
        assert_eq!(keys(&*store, &none).await, (vec![], None));
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_records_and_in_bytes() {
    for store in kinds().stores {
        for number in 0..11_usize {
            let batch =
                (0..100).fold(Batch::new(), |batch, at| batch.put(key(&format!("s/{number}/{at}")), ""));
            store.commit(batch).await.unwrap();
        }
        let (names, next) =
            keys(&*store, &Range { limit: usize::MAX, ..Range::first(Prefix::new("s/")) }).await;
        assert_eq!(
            (names.len(), next.map(|next| next.to_string())),
            (Range::MAX_LIMIT, names.last().cloned())
        );
        for number in 0..12 {
            store.put(key(&format!("l/{number:02}")), vec![0; 512 * 1024].into()).await.unwrap();
        }
        let (names, next) = keys(&*store, &Range::first(Prefix::new("l/"))).await;
        assert_eq!((names.len(), next), (8, Some(key("l/07"))));
        assert_eq!(everything(&*store, "l/").await.entries.len(), 12);
    }
}

#[tokio::test]
async fn whoever_watches_hears_of_each_commit_under_its_prefix_in_order() {
    for store in kinds().stores {
        let mut watch = store.watch(&Prefix::new("w/"));
        let first =
            store.commit(Batch::new().put(key("w/1"), "1").put(key("v/1"), "0").delete(key("w/2"))).await;
        store.put(key("v/2"), value("0")).await.unwrap();
        store.compare_and_put(key("w/1"), Expect::Absent, value("x")).await.unwrap_err();
        let second = store.put(key("w/3"), value("3")).await;
        let event = |name, revision: &Result<_, _>, change| Event {
            key: key(name),
            revision: *revision.as_ref().unwrap(),
            change,
        };
        let put = |text| Change::Put(value(text));
        let news = [event("w/1", &first, put("1")), event("w/2", &first, Change::Delete)];
        assert_eq!(watch.next().await, Some(News::Changed(news.to_vec())));
        assert_eq!(watch.next().await, Some(News::Changed(vec![event("w/3", &second, put("3"))])));
        store.close().await.unwrap();
        assert_eq!(watch.next().await, None);
    }
}

#[tokio::test]
async fn whoever_watches_too_slowly_is_told_that_it_missed_something() {
    for store in kinds().stores {
        let mut watch = store.watch(&Prefix::new("w/"));
        // Told of in batches: more than are kept.
        let writes: Vec<_> =
            (0..1100).map(|number| store.put(key(&format!("w/{number}")), value(""))).collect();
        for write in writes {
            write.await.unwrap();
        }
        assert_eq!(watch.next().await, Some(News::Missed));
        assert!(matches!(watch.next().await, Some(News::Changed(_))));
    }
}

#[tokio::test]
async fn a_closed_store_says_so() {
    for store in kinds().stores {
        store.put(key("a"), value("1")).await.unwrap();
        assert_eq!(store.trouble(), None);
        store.close().await.unwrap();
        store.close().await.unwrap();
        assert_eq!(store.get(&key("a")).await, Err(StoreError::Closed));
        assert_eq!(store.list(&Range::first(Prefix::new(""))).await, Err(StoreError::Closed));
        assert_eq!(store.put(key("a"), value("2")).await, Err(StoreError::Closed));
        assert_eq!(store.watch(&Prefix::new("")).next().await, None);
        assert!(store.trouble().unwrap().contains("closed"));
    }
}

#[tokio::test]
async fn a_batch_beyond_its_bounds_is_refused_before_it_is_tried() {
    for store in kinds().stores {
        let refused = store.put(key("a"), vec![0; Batch::MAX_VALUE_BYTES + 1].into()).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    }
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let name = (0..4_u8).prop_map(|number| key(&format!("k/{number}")));
    let expect = prop_oneof![Just(Expect::Absent), (0..12_u64).prop_map(|at| Expect::At(Revision(at)))];
    let change = prop_oneof![
        any::<[u8; 3]>().prop_map(|bytes| Change::Put(Bytes::copy_from_slice(&bytes))),
        Just(Change::Delete)
    ];
    let conditions = prop::collection::vec((name.clone(), expect), 0..2);
    let changes = prop::collection::vec((name, change), 1..4);
    let batch = (conditions, changes).prop_map(|(conditions, changes)| {
        let batch =
            conditions.into_iter().fold(Batch::new(), |batch, (key, expect)| batch.only_if(key, expect));
        changes.into_iter().fold(batch, |batch, (key, change)| match change {
            Change::Put(value) => batch.put(key, value),
            Change::Delete => batch.delete(key),
        })
    });
    prop::collection::vec(batch, 1..40)
}

#[test]
fn both_kinds_do_the_same_with_any_batches_one_by_one_or_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config::with_cases(24));
    let compared = runner.run(&batches(), |batches| {
        runtime.block_on(async {
            let kinds = kinds();
            let [memory, embedded] = &kinds.stores;
            // All are under way at once, so that many share a transaction.
            let answers: Vec<_> = batches.iter().map(|batch| embedded.commit(batch.clone())).collect();
            for (batch, answer) in batches.iter().zip(answers) {
                let expected = memory.commit(batch.clone()).await;
                prop_assert_eq!(answer.await, expected);
            }
            let (ours, theirs) = (everything(&**memory, "").await, everything(&**embedded, "").await);
            prop_assert_eq!(ours, theirs);
            Ok(())
        })
    });
    compared.unwrap();
}
