-- What `undelfs scan` found, kept. A block is counted in filesystem blocks from the filesystem's start.

-- What the catalog was made from, and with: property by property. If one of them differs, nothing in here counts.
CREATE TABLE image (
    property TEXT PRIMARY KEY,
    value    TEXT NOT NULL
) WITHOUT ROWID;

-- The groups that are done. The scan is complete when there are as many as the property 'groups' says.
CREATE TABLE groups (
    number         INTEGER PRIMARY KEY, -- from 0
    bitmap         INTEGER,             -- CRC-32C of its block bitmap, with the journal replayed; NULL if it cannot be read
    free           INTEGER NOT NULL,    -- free blocks
    unreadable     INTEGER NOT NULL,    -- free blocks that the medium does not give back
    written_blocks INTEGER NOT NULL,    -- free blocks that are not all zeros
    written        BLOB,                -- which: a 64-bit Roaring bitmap (github.com/RoaringBitmap/RoaringFormatSpec); NULL if none
    rows           BLOB                 -- those of them that stand among rows of MyISAM tables; NULL if none
);

-- Free blocks that can be indirect blocks, judged by their own bytes alone.
CREATE TABLE pages (
    block         INTEGER PRIMARY KEY,
    first_pointer INTEGER NOT NULL, -- its first pointer that is not 0
    last_pointer  INTEGER NOT NULL, -- its last
    pointers      INTEGER NOT NULL, -- how many are not 0
    begin_index   INTEGER NOT NULL, -- index of the first
    end_index     INTEGER NOT NULL, -- index after the last
    breaks        INTEGER NOT NULL, -- pointers that do not name the block after the one before
    scattered     INTEGER NOT NULL  -- 1: too wide apart to be those of data
);

-- Free blocks that begin as files of a known kind do: where a carver could begin. Nothing says that the file goes on behind them.
CREATE TABLE heads (
    block     INTEGER PRIMARY KEY,
    extension TEXT NOT NULL, -- the usual one of such files, without the dot
    folder    TEXT NOT NULL  -- where the mount would show it under orphans/by-kind
);

-- Free blocks with consecutive integers that cannot all be pointers: what continues them is none of an indirect block either.
CREATE TABLE integers (
    block INTEGER PRIMARY KEY,
    first INTEGER NOT NULL -- the first integer
);

-- Blocks of the inode tables that hold anything; one row, once they were all read.
CREATE TABLE inode_tables (
    written BLOB NOT NULL -- which: a 64-bit Roaring bitmap
);
