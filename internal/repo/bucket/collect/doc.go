// Package collect is the garbage collection of a repository in a bucket: it removes
// what no snapshot needs, keeps packs full and indexes few, and prolongs the locks of
// what is needed. Its price follows what changed since the last one.
//
// # What it reads
//
// For each chunk it is known how many snapshots need it (internal/format/packrefs).
// A collection reads the chunk maps of the snapshots that came or went since the
// last one, lists what the sessions that came wrote, and reads and writes the shards of
// counts in which something changed. Package plan decides, on values; the shell here makes requests.
//
// # Steps
//
//  1. An entry begins a session of the kind gc; there is one at a time. Sessions whose leases
//     have run out are ended.
//  2. The state V is read, the changes up to V are counted.
//  3. Packs that are sparse, and indexes, are written anew below the session's number; locks
//     are prolonged; what ended sessions left is removed.
//  4. One entry, made only while the session's record is there, makes all of that true: the counts,
//     new indexes, moved packs, what is condemned (dead/…). It ends the session.
//  5. An entry dooms the lists that are due. What is in them is removed. An entry says so.
//
// Until step 4 nothing names what was written, so a collection that dies leaves a
// session that somebody ends, and objects below its number that are removed. After it, whoever
// collects next goes on with step 5: what is doomed stays so, and removing twice does no
// harm. So steps 5 of several collections may overlap.
//
// # Why nothing is removed that is needed
//
// Claim: a pack that the chunk map of a visible snapshot needs is on no doomed list. All changes
// of that are entries, and these have one order, so it is enough to look at each kind.
//
//   - A commit is refused where a pack of its map is on a doomed list, and takes those off that are
//     on another ([catalog.Commit]). So it keeps the claim, whatever its session knew: packs of a
//     base that was forgotten meanwhile, packs that it found before they were condemned, packs of
//     a refill that goes on. The place of a sound copy of a damaged chunk is always in such a map.
//   - Step 5 dooms a list only when its sessions are none. Take a snapshot that is visible then
//     and needs a pack of the list, which entry M condemned. It was not committed after M:
//     that commit would have taken the pack off. So it was visible at M. Either it was counted then,
//     and its pack had a count, and was not condemned; or it was not, and then its session was put on
//     the list, and is only taken off by a step 4 that has counted it, and which takes the pack off the
//     list with it. And moving a pack takes its counts to where the chunks are, which are
//     then needed there.
//   - Forgetting makes less visible. A mended snapshot has another session, and counts as
//     another one; the old one counts until its references were taken off.
//
// The sessions on a list that still run are there for their own sake: they may use these packs, and
// would be refused at their end. Sessions that begin later see the list, and do not use them. A
// doomed list stays until all sessions have ended that began before it was doomed, so the refusal does not
// depend on their keeping that rule; later ones are told by the indexes (void) and by moved/….
//
// # Moved packs
//
// What is needed of a sparse pack P is copied into new packs, and moved/P says where.
// Maps go on to name P, for as long as they live. Chunks are counted where they lie at
// last, through any number of moves, so a place that is the end of a chain is needed by what the
// chain's beginning is needed by. Chunks of P that nobody needed were not copied, and lie in P: a
// session that ran meanwhile may need one, and its commit takes P off the list; then P is counted for
// that chunk, and may be written anew once more. moved/P is dropped when no map names P, and no moved pack
// whose chunks went there; the latter are counted as names too.
//
// A copy is made of bytes that were checked: the table of P by its checksum, each chunk by its
// own. Where a chunk is known to be damaged its sound copy is taken. P stays if that cannot be. A sound copy
// is counted like a chunk of a snapshot, so its pack stays; that the damaged one is not
// needed any more is only seen by a full collection, which reads all maps.
//
// # What ended sessions left
//
// All objects below the number of a session that ended without success are removed,
// and are looked for again for a week: a process that slept may still store some. No snapshot
// names the packs of a session before that has succeeded.
//
// # Locks
//
// Where the repository locks objects (meta.retention), locks of what is needed are prolonged when
// less than half of their time is left: one request for each object and half of the time.
// Sparse packs are written anew at that moment instead of earlier, because until then the old one
// would stay anyway. Nothing is doomed before its lock ends. Credentials that may not remove leave
// everything sound: a warning says so, and what was left is still doomed for whoever may.
//
// # When counts are lost
//
// Where the root or a shard is missing or damaged, or changes do not fit the counts, everything is counted
// from nothing, and a warning says why. repo.GCOptions.Full does so at any time, compares, and finds objects
// that the state does not know of.
//
// A snapshot whose own chunk map is damaged or missing cannot be counted; no pack is condemned until
// it is mended or forgotten.
//
// # Errors and memory
//
// Errors are those of internal/repo and of the store; a collection that was ended by others while it
// slept, and misses what they removed, is [catalog.ErrFenced]. Memory: the state; 24 to 48 MiB of changes;
// 16 chunk maps of at most 1 MiB, larger ones are in files; four packs that are read and one that
// is written; a shard. Shards that changed are in a temporary file until they are stored.
package collect
