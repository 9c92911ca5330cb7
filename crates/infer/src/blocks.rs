//! The blocks of the cache. Each holds the keys and values of as many consecutive tokens; one that is full is known by its tokens and by the
//! block before it, and whoever begins alike reads it, too.
//!
//! A block that nobody holds stays known until its room is needed; the one that was let go first goes first. Whoever lets go of a chain
//! does so from its end, so that no block is forgotten before those that follow it: a block's number names its whole past.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The number of a block.
pub type BlockId = u32;

/// Known blocks that follow the same one, by their tokens.
type Following = HashMap<Arc<[u32]>, BlockId>;

/// The blocks of the cache.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Held by nobody, and with nothing that could be read again.
    empty: Vec<BlockId>,
    /// Held by nobody, but known; by when they were let go.
    idle: BTreeMap<u64, BlockId>,
    /// Known blocks that begin a text.
    beginnings: Following,
    /// How often a block was let go.
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Block {
    holders: u32,
    /// Where it is known: the block before, and its tokens, which are what keys and values depend on.
    known: Option<(Option<BlockId>, Arc<[u32]>)>,
    /// Known blocks that follow it. None is left when it is forgotten itself.
    following: Following,
    idle_since: u64,
}

impl Blocks {
    pub(crate) fn new(count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            blocks: vec![Block::default(); count as usize],
            // The last is taken first.
            empty: (0..count).rev().collect(),
            idle: BTreeMap::new(),
            beginnings: Following::new(),
            clock: 0,
        }
    }

    /// How many can be taken.
    pub(crate) fn available(&self) -> usize {
        self.empty.len() + self.idle.len()
    }

    /// How many are held.
    pub(crate) fn held(&self) -> usize {
        self.blocks.len() - self.available()
    }

    /// Whether nobody holds it.
    pub(crate) fn is_idle(&self, id: BlockId) -> bool {
        self.blocks[id as usize].holders == 0
    }

    /// Takes one to be written, if there is one.
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        let id = self.empty.pop().or_else(|| self.forget_one())?;
        self.blocks[id as usize].holders = 1;
        Some(id)
    }

    fn forget_one(&mut self) -> Option<BlockId> {
        let (_, id) = self.idle.pop_first()?;
        if let Some((before, tokens)) = self.blocks[id as usize].known.take() {
            self.following_mut(before).remove(&tokens);
        }
        Some(id)
    }

    /// The known block of these tokens after `before`.
    pub(crate) fn find(&self, before: Option<BlockId>, tokens: &[u32]) -> Option<BlockId> {
        let following = match before {
            Some(before) => &self.blocks[before as usize].following,
            None => &self.beginnings,
        };
        following.get(tokens).copied()
    }

    fn following_mut(&mut self, before: Option<BlockId>) -> &mut Following {
        match before {
            Some(before) => &mut self.blocks[before as usize].following,
            None => &mut self.beginnings,
        }
    }

    /// Holds one that is known.
    pub(crate) fn hold(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        if block.holders == 0 {
            self.idle.remove(&block.idle_since);
        }
        block.holders += 1;
    }

    /// Makes a full block known that its one holder has written after `before`, and gives the one to go on with: where another of the same
    /// past is known already, that, and this one is let go.
    pub(crate) fn publish(&mut self, id: BlockId, before: Option<BlockId>, tokens: &[u32]) -> BlockId {
        if let Some(twin) = self.find(before, tokens) {
            self.hold(twin);
            self.release(id);
            return twin;
        }
        let tokens: Arc<[u32]> = tokens.into();
        self.following_mut(before).insert(Arc::clone(&tokens), id);
        self.blocks[id as usize].known = Some((before, tokens));
        id
    }

    /// Lets go of a chain, from its end.
    pub(crate) fn release_all(&mut self, chain: &mut Vec<BlockId>) {
        while let Some(id) = chain.pop() {
            self.release(id);
        }
    }

    fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        block.holders -= 1;
        if block.holders > 0 {
            return;
        }
        if block.known.is_none() {
            self.empty.push(id);
            return;
        }
        self.clock += 1;
        block.idle_since = self.clock;
        self.idle.insert(self.clock, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_first_is_forgotten_first_and_ends_before_beginnings() {
        let mut blocks = Blocks::new(3);
        let first = blocks.take().unwrap();
        let first = blocks.publish(first, None, &[1, 2]);
        let second = blocks.take().unwrap();
        let second = blocks.publish(second, Some(first), &[3, 4]);
        blocks.release_all(&mut vec![first, second]);
        assert_eq!((blocks.available(), blocks.find(Some(first), &[3, 4])), (3, Some(second)));
        let mut taken = vec![blocks.take().unwrap(), blocks.take().unwrap()];
        // The end is gone, the beginning is still there.
        assert_eq!((blocks.find(Some(first), &[3, 4]), blocks.find(None, &[1, 2])), (None, Some(first)));
        taken.push(blocks.take().unwrap());
        assert_eq!((blocks.find(None, &[1, 2]), blocks.take(), blocks.held()), (None, None, 3));
        blocks.release_all(&mut taken);
        assert_eq!(blocks.held(), 0);
    }

    #[test]
    fn of_two_blocks_with_the_same_past_one_is_kept() {
        let mut blocks = Blocks::new(2);
        let (one, other) = (blocks.take().unwrap(), blocks.take().unwrap());
        assert_eq!(blocks.publish(one, None, &[7]), one);
        assert_eq!(blocks.publish(other, None, &[7]), one);
        assert_eq!(blocks.held(), 1);
        blocks.release_all(&mut vec![one]);
        assert_eq!((blocks.held(), blocks.find(None, &[7])), (1, Some(one)));
        blocks.release_all(&mut vec![one]);
        assert_eq!((blocks.held(), blocks.find(None, &[7])), (0, Some(one)));
    }
}
