//! Finds the row of a job by its id, without a hash.
//!
//! Ids only count up, so a job's number says which page of 64 ids it is on. Pages that hold a live
//! row stand in order in a queue: a new id goes to the last one, an old one is found by bisection,
//! and a page whose last row ended is taken out.

use std::collections::VecDeque;

use super::id::JobId;

/// Ids on a page: large enough that a page is rarely made, small enough that one job that lives
/// long keeps little.
const PAGE: u64 = 64;

/// No row.
const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct Index {
    pages: VecDeque<Page>,
    /// The memory of a page that was taken out, for the next one.
    spare: Option<Box<[u32; PAGE as usize]>>,
}

struct Page {
    /// The ids' common part.
    number: u64,
    live: u32,
    rows: Box<[u32; PAGE as usize]>,
}

impl Index {
    /// Adds an id greater than all before it.
    #[inline]
    pub(super) fn insert(&mut self, id: JobId, row: u32) {
        let number = id.0 / PAGE;
        if self.pages.back().is_none_or(|page| page.number != number) {
            self.grow(number);
        }
        if let Some(page) = self.pages.back_mut() {
            page.rows[(id.0 % PAGE) as usize] = row;
            page.live += 1;
        }
    }

    #[cold]
    fn grow(&mut self, number: u64) {
        // Its jobs may all have ended while it was the last.
        if self.pages.back().is_some_and(|page| page.live == 0) {
            self.spare = self.pages.pop_back().map(|page| page.rows);
        }
        let mut rows = self.spare.take().unwrap_or_else(|| Box::new([NONE; PAGE as usize]));
        rows.fill(NONE);
        self.pages.push_back(Page { number, live: 0, rows });
    }

    fn place(&self, id: JobId) -> Option<usize> {
        let number = id.0 / PAGE;
        if self.pages.back()?.number == number {
            return Some(self.pages.len() - 1);
        }
        // Rows are mostly removed in the order in which they were added.
        if self.pages.front()?.number == number {
            return Some(0);
        }
        self.pages.binary_search_by_key(&number, |page| page.number).ok()
    }

    pub(super) fn get(&self, id: JobId) -> Option<u32> {
        let row = self.pages[self.place(id)?].rows[(id.0 % PAGE) as usize];
        (row != NONE).then_some(row)
    }

    #[inline]
    pub(super) fn remove(&mut self, id: JobId) {
        let Some(place) = self.place(id) else { return };
        let page = &mut self.pages[place];
        page.rows[(id.0 % PAGE) as usize] = NONE;
        page.live -= 1;
        if page.live == 0 && place + 1 < self.pages.len() {
            self.spare = self.pages.remove(place).map(|page| page.rows);
        }
    }

    /// Gives back the memory that a burst took. Called when no job is left.
    pub(super) fn shrink(&mut self) {
        self.pages.shrink_to(16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_what_a_map_would_find() {
        let (mut index, mut map) = (Index::default(), std::collections::BTreeMap::new());
        let (mut random, mut id) = (1_u64, 1_000_u64);
        for step in 0..20_000_u32 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if random >> 62 != 0 && map.len() < 300 {
                id += 1 + (random >> 33) % 3;
                index.insert(JobId(id), step);
                map.insert(id, step);
            } else if let Some(&victim) = map.keys().nth((random >> 33) as usize % map.len().max(1)) {
                index.remove(JobId(victim));
                map.remove(&victim);
            }
            let probe = id.saturating_sub((random >> 40) % 500);
            assert_eq!(index.get(JobId(probe)), map.get(&probe).copied());
        }
        let ids: Vec<u64> = map.keys().copied().collect();
        ids.into_iter().for_each(|id| index.remove(JobId(id)));
        assert!(index.pages.len() <= 1, "{} pages are left", index.pages.len());
    }
}
