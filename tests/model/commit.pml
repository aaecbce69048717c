/* The commit, fence and recovery protocol of one shard on three replicas, for spin.
 *
 * docs/log-protocol.md numbers the rules (R1..R15) and says what this model covers and what it
 * leaves out. Two worlds, one protocol:
 *   default      one box: the superblocks arbitrate the epoch, the directory locks admit one
 *                process, a crash is a SIGKILL or a power loss.
 *   -DTAKEOVER   a cluster: the epoch is a compare-and-swap counter, and a deposed writer that was
 *                only stalled goes on writing and counting under its old epoch.
 *
 * Each event below is one atomic step; the search tries every order of them. Bounds are the macros
 * FRAMES, KILLS, POWER_LOSSES, TRIPS and DAMAGES.
 *
 * A write is nowhere, in flight, or durable on each replica. In flight covers "not there yet" and
 * "readable, but only in the drive's cache": a recovery read sees such a write or not, as the
 * search pleases. A power loss forgets all of them; any subset that survives it is the run in which
 * that subset became durable just before. Frames are named by number here; on disk they are named
 * by (epoch, last sequence, header checksum), and the place of a frame is its chain of
 * predecessors, which never changes: "in the log at its place" is membership in the chain. */

#ifndef FRAMES
#define FRAMES 3        /* frames made in a run */
#endif
#ifndef KILLS
#define KILLS 1         /* SIGKILLs; with -DTAKEOVER, failovers that leave the old writer running */
#endif
#ifndef POWER_LOSSES
#define POWER_LOSSES 1
#endif
#ifndef TRIPS
#define TRIPS 1         /* times a replica goes away, and comes back when the search likes */
#endif
#ifndef DAMAGES
#define DAMAGES 0       /* durable frames that rot on one replica */
#endif
#define FRAMES_MAX 4    /* what the events below are written out for */
#define WINDOW 2        /* frames in flight at once */
#define GAP (WINDOW + 1)    /* stands for 2^32: more than can ever be in flight (R7) */
#define STARTS (KILLS + POWER_LOSSES + 2)

#define bit(k) (1 << ((k) - 1))
#define has(set, k) (((set) >> ((k) - 1)) & 1)
/* How many of the three replicas the condition holds on. */
#define on_replicas(a, b, c) ((a) + (b) + (c))

#define DOWN 0          /* no process */
#define PROMISE 1       /* R2, R4: making the epoch durable in superblocks */
#define COPY 2          /* R6: making what it read durable on two */
#define START 3         /* R6: making the epoch-start record durable on two */
#define SERVE 4

/* Frames; number 0 is "before the first". */
byte f_epoch[FRAMES_MAX + 1];
byte f_pred[FRAMES_MAX + 1];        /* R5: the frame it follows */
byte f_seq[FRAMES_MAX + 1];
byte f_through[FRAMES_MAX + 1];     /* R5: commit point known when it was submitted */
byte frames;

/* Replicas. Bit k - 1 of a set is frame k. */
bool here[3];
byte promised[3];
byte flying[3];
byte durable[3];
byte rotten[3];                 /* was durable, fails its checksum now */
byte done[3];                   /* uncommitted ones whose completion their writer counted */
byte es[3];                     /* newest durable epoch-start record, by start number */
byte es_flying[3];              /* one in flight; 0 is none */

/* Starts of the writer; start 1 made the empty set. A start's record is its epoch, cut, next. */
byte s_epoch[STARTS + 1];
byte s_cut[STARTS + 1];         /* last frame of the log as recovered */
byte s_log[STARTS + 1];         /* all its frames */
byte s_next[STARTS + 1];
byte starts;

/* The writer. */
byte phase;
byte epoch;
byte deposed;                   /* epoch of a stalled older writer that doesn't know it; 0 is none */
byte cas;                       /* etcd's counter, with -DTAKEOVER */

byte kills_left = KILLS;
byte losses_left = POWER_LOSSES;
byte trips_left = TRIPS;
byte damages_left = DAMAGES;

/* What the outside saw: the model's memory of promises, no part of the protocol. */
byte acked;                     /* frames whose producer got an ack */
byte shown;                     /* frames a reader got */
byte voided;                    /* frames beyond the cut of an epoch that served (R6) */
byte served_epoch;              /* newest epoch that served */
byte served_count;

hidden byte k;
hidden byte last;
hidden byte chain;
hidden byte chosen;
byte seen;                      /* what a recovery read found; kept during that step only */
byte step;

/* chain = the frames of the log that ends with `from`. */
inline chain_of(from) {
    chain = 0;
    last = from;
    do
    :: last != 0 -> chain = chain | bit(last); last = f_pred[last]
    :: else -> break
    od;
    k = 0
}

/* last = the newest frame of the log of epoch e: its start's cut, or its own newest frame. */
inline newest_of(e, from_cut) {
    last = from_cut;
    k = 1;
    do
    :: k > frames -> break
    :: else ->
        if
        :: f_epoch[k] == e -> last = k
        :: else
        fi;
        k++
    od;
    k = 0
}

#define durable_copies(k) on_replicas(has(durable[0] | rotten[0], k), \
                                      has(durable[1] | rotten[1], k), \
                                      has(durable[2] | rotten[2], k))
#define completions(k) on_replicas(has(done[0], k), has(done[1], k), has(done[2], k))

/* Whether frame k is committed in the eyes of its own writer, its predecessors apart (R5, R9). */
#ifdef ACK_BEFORE_DURABLE
#define counts_committed(k) (on_replicas(has(flying[0] | durable[0], k), \
                                         has(flying[1] | durable[1], k), \
                                         has(flying[2] | durable[2], k)) >= 2)
#else
#define counts_committed(k) (completions(k) >= 2)
#endif
/* The predecessor is below the cut (an older epoch's) or acked already: a prefix, in order (R5). */
#define may_commit(k, e) (k <= frames && f_epoch[k] == e && !has(acked, k) && \
                          counts_committed(k) && \
                          (f_pred[k] == 0 || f_epoch[f_pred[k]] != e || has(acked, f_pred[k])))

/* R5, R7: a new frame of epoch e, sent to every replica that is here and fenced with e. */
inline make_frame(e, start) {
    newest_of(e, s_cut[start]);
    frames++;
    f_epoch[frames] = e;
    f_pred[frames] = last;
    f_seq[frames] = s_next[start];
    f_through[frames] = s_cut[start];
    k = 1;
    do
    :: k >= frames -> break
    :: else ->
        if
        :: f_epoch[k] == e ->
            f_seq[frames] = f_seq[k] + 1;
            if
            :: has(acked, k) -> f_through[frames] = k
            :: else
            fi
        :: else
        fi;
        k++
    od;
    /* P2: a sequence number is given out once, whatever became of its frame. */
    k = 1;
    do
    :: k >= frames -> break
    :: else -> assert(f_seq[k] != f_seq[frames]); k++
    od;
    /* A deposed writer's frame made after a newer epoch served can only ever be void. */
    if
    :: e < served_epoch -> voided = voided | bit(frames)
    :: else
    fi;
    k = 0;
    do
    :: k > 2 -> break
    :: else ->
        if
        :: here[k] && promised[k] == e -> flying[k] = flying[k] | bit(frames)
        :: else
        fi;
        k++
    od;
    k = 0
}

/* Whether epoch e has fewer than WINDOW frames that aren't committed. */
#define is_open(k, e) (f_epoch[k] == e && !has(acked, k))
#define open_below(e) (is_open(1, e) + is_open(2, e) + is_open(3, e) + is_open(4, e) < WINDOW)

inline commit_frame(n) {
#ifndef ACK_BEFORE_DURABLE
    /* P5: what readers and producers are told is durable on two (R9). Off for the planted bug that
     * breaks just this, so that the search has to find the loss itself. */
    assert(durable_copies(n) >= 2);
#endif
    /* P1 for a deposed writer: what it acks now must be in the log that already took over. */
    assert(!has(voided, n));
    acked = acked | bit(n);
    shown = shown | bit(n);
    done[0] = done[0] & ~bit(n);
    done[1] = done[1] & ~bit(n);
    done[2] = done[2] & ~bit(n)
}

/* R12 and the drive: a write in flight becomes durable. The replica answers its writer only while
 * it has promised no newer epoch (R4), and only a living writer counts the answer. */
inline land(r, n) {
    flying[r] = flying[r] & ~bit(n);
    durable[r] = durable[r] | bit(n);
    rotten[r] = rotten[r] & ~bit(n);
    if
    :: here[r] && promised[r] <= f_epoch[n] && !has(acked, n) &&
       ((phase == SERVE && epoch == f_epoch[n]) || deposed == f_epoch[n]) ->
        done[r] = done[r] | bit(n)
    :: else
    fi
}

inline land_start(r) {
    /* Two slots: a late record of an older epoch doesn't replace a newer one. */
    if
    :: s_epoch[es_flying[r]] > s_epoch[es[r]] -> es[r] = es_flying[r]
    :: else
    fi;
#ifdef SKIP_FENCE
    if
    :: s_epoch[es[r]] > promised[r] -> promised[r] = s_epoch[es[r]]     /* only now, too late */
    :: else
    fi;
#endif
    es_flying[r] = 0
}

/* The process is gone: nobody counts completions of its epoch any more. */
inline forget(e) {
    k = 1;
    do
    :: k > frames -> break
    :: else ->
        if
        :: f_epoch[k] == e ->
            done[0] = done[0] & ~bit(k);
            done[1] = done[1] & ~bit(k);
            done[2] = done[2] & ~bit(k)
        :: else
        fi;
        k++
    od;
    k = 0
}

/* R2: reads two voting superblocks and takes highest + 1. */
inline begin(a, b) {
    starts++;
    if
    :: promised[a] > promised[b] -> epoch = promised[a] + 1
    :: else -> epoch = promised[b] + 1
    fi;
    s_epoch[starts] = epoch;
    phase = PROMISE
}

#ifdef SKIP_FENCE
#define fenced(r) 1
#else
#define fenced(r) (promised[r] == epoch)
#endif
#define can_write(r) (here[r] && fenced(r) && promised[r] <= epoch)
#define can_read(r) (here[r] && fenced(r))
#define read_set(m) ((!(m & 1) || can_read(0)) && (!(m & 2) || can_read(1)) && \
                     (!(m & 4) || can_read(2)))

/* R6: writes to replica r what it is not known to hold durably of the recovered log. */
inline copy_log(r) {
    if
    :: can_write(r) -> flying[r] = flying[r] | (s_log[starts] & ~durable[r])
    :: else
    fi
}
/* R6: the epoch-start record, to every replica that can take it. */
inline send_start(r) {
    if
    :: can_write(r) && es_flying[r] == 0 -> es_flying[r] = starts
    :: else
    fi
}

/* R6, R8: reads the replicas of set m, finds the newest epoch-start record and the frames of that
 * epoch that chain on from its cut. All replicas are read in one step: a write that lands on one of
 * them between two reads is the run in which it landed after the step, since fenced replicas answer
 * the old writer no more. Within the step only the choice of what a read sees of writes in flight
 * is open; it goes through `seen` and `step`, which are part of the state while it lasts. */
inline recovery_read(m) {
    /* Which epoch-start records in flight are readable: bits 4..6 of step. */
    step = 1;
    if
    :: (m & 1) && es_flying[0] != 0 -> step = step | 16
    :: true
    fi;
    if
    :: (m & 2) && es_flying[1] != 0 -> step = step | 32
    :: true
    fi;
    if
    :: (m & 4) && es_flying[2] != 0 -> step = step | 64
    :: true
    fi;
    seen = ((m & 1) -> durable[0] : 0) | ((m & 2) -> durable[1] : 0) | ((m & 4) -> durable[2] : 0);
    do
    :: (step & 15) > frames -> break
    :: else ->
        if
        :: (((m & 1) && has(flying[0], (step & 15))) || ((m & 2) && has(flying[1], (step & 15))) ||
            ((m & 4) && has(flying[2], (step & 15)))) -> seen = seen | bit((step & 15))
        :: true
        fi;
        step++
    od;
    d_step {
        /* The newest epoch-start record among those read. */
        chosen = 0;
        k = 0;
        do
        :: k > 2 -> break
        :: else ->
            if
            :: (m >> k) & 1 ->
                if
                :: s_epoch[es[k]] > s_epoch[chosen] -> chosen = es[k]
                :: else
                fi;
                if
                :: ((step >> (k + 4)) & 1) && s_epoch[es_flying[k]] > s_epoch[chosen] ->
                    chosen = es_flying[k]
                :: else
                fi
            :: else
            fi;
            k++
        od;
        last = s_cut[chosen];
        k = 1;      /* a frame's number is above its predecessor's: one pass follows the chain */
        do
        :: k > frames -> break
        :: else ->
            if
#ifdef NO_EPOCH_START
            :: has(seen, k) && f_pred[k] == last -> last = k
#else
            :: has(seen, k) && f_pred[k] == last && f_epoch[k] == s_epoch[chosen] -> last = k
#endif
            :: else
            fi;
            k++
        od;
        s_cut[starts] = last;
        /* R7: highest end or start known, plus more than can be in flight. */
        s_next[starts] = s_next[chosen];
        k = 1;
        do
        :: k > frames -> break
        :: else ->
            if
            :: has(seen, k) && f_seq[k] >= s_next[starts] -> s_next[starts] = f_seq[k] + 1
            :: else
            fi;
            k++
        od;
#ifdef REUSE_SEQUENCE
        s_next[starts] = (last == 0 -> 1 : f_seq[last] + 1);
#else
        s_next[starts] = s_next[starts] + GAP;
#endif
        /* R8: a damaged slot that may have held a frame of that epoch, of which no read replica has
         * a good copy. Places are the same on every replica, so recovery can tell. */
        chain = 0;
        k = 1;
        do
        :: k > frames -> break
        :: else ->
            if
            :: f_epoch[k] == s_epoch[chosen] && !has(seen, k) &&
               (((m & 1) && has(rotten[0], k)) || ((m & 2) && has(rotten[1], k)) ||
                ((m & 4) && has(rotten[2], k))) -> chain = 1
            :: else
            fi;
            k++
        od;
        if
#ifndef DAMAGED_IS_ABSENT
        :: chain == 1 && m != 7 ->
            s_cut[starts] = 0;  /* wait for the replica that wasn't read; try again later */
            s_next[starts] = 0
#endif
        :: else ->
            chain_of(s_cut[starts]);
            s_log[starts] = chain;
            /* P1, P3: every frame of the log has a copy to read. */
            assert((chain & ~(seen | durable[0] | durable[1] | durable[2])) == 0);
            /* R8: with two of three read, no hole at or below a carried commit point can be. */
            k = 1;
            do
            :: k > frames -> break
            :: else ->
                if
                :: has(seen, k) && f_epoch[k] == s_epoch[chosen] && f_through[k] != 0 ->
                    assert(has(chain, f_through[k]))
                :: else
                fi;
                k++
            od;
            phase = COPY;
            copy_log(0);
            copy_log(1);
            copy_log(2)
        fi;
        seen = 0;
        step = 0;
        sort()
    }
}

/* R6: two epoch-start records are durable; what holds from here on is checked here. */
inline serve() {
    chain = s_log[starts];
    k = 1;
    do
    :: k > frames -> break
    :: else ->
        if
        :: has(chain, k) ->
#ifndef NO_RECOPY
            assert(durable_copies(k) >= 2);     /* P5 */
#endif
            assert(!has(voided, k))             /* P4: nothing voided comes back */
        :: else ->
            assert(!has(acked, k));             /* P1: an acked frame is in every later log */
            assert(!has(shown, k));             /* P3: a served read never disappears */
            if
            :: f_epoch[k] < epoch -> voided = voided | bit(k)
            :: else
            fi
        fi;
        k++
    od;
    shown = shown | chain;
    served_epoch = epoch;
    served_count++;
    phase = SERVE
}

inline stop() {
    if
    :: phase == PROMISE || phase == COPY ->     /* it left no record: its number is free */
        s_epoch[starts] = 0;
        s_cut[starts] = 0;
        s_log[starts] = 0;
        s_next[starts] = 0;
        starts--
    :: else
    fi;
    phase = DOWN;
    forget(epoch);
    epoch = 0
}

#define has_start(r) (es[r] == starts)
#define has_log(r) (can_write(r) && (s_log[starts] & ~durable[r]) == 0)

#define REPLICA_EVENTS(r)                                                                          \
    /* R2, R4: promise in the superblock; while serving, fencing one that came back. */            \
    :: here[r] && promised[r] < epoch && (phase == SERVE FENCE_EARLY) ->                           \
        d_step { promised[r] = epoch; sort() }                                                     \
    :: es_flying[r] != 0 -> d_step { land_start(r); sort() }                                       \
    /* R10: a replica that came back, or whose copy rotted, is refilled. */                        \
    :: phase == SERVE && can_write(r) && (shown & ~durable[r] & ~flying[r]) != 0 ->                \
        d_step { flying[r] = flying[r] | (shown & ~durable[r]); sort() }                           \
    :: trips_left > 0 && here[0] && here[1] && here[2] ->                                          \
        d_step { trips_left--; here[r] = 0; sort() }                                               \
    :: !here[r] -> d_step { here[r] = 1; sort() }

#ifdef SKIP_FENCE
#define FENCE_EARLY
#else
#define FENCE_EARLY || phase == PROMISE
#endif

#define LAND_EVENTS(r)                                                                             \
    :: has(flying[r], 1) -> d_step { land(r, 1); sort() }                                                  \
    :: has(flying[r], 2) -> d_step { land(r, 2); sort() }                                                  \
    LAND_3(r)                                                                                      \
    LAND_4(r)                                                                                      \
    :: damages_left > 0 && durable[r] != 0 -> atomic { damages_left--; rot(r); d_step { sort() } }
#if FRAMES > 2
#define LAND_3(r) :: has(flying[r], 3) -> d_step { land(r, 3); sort() }
#else
#define LAND_3(r)
#endif
#if FRAMES > 3
#define LAND_4(r) :: has(flying[r], 4) -> d_step { land(r, 4); sort() }
#else
#define LAND_4(r)
#endif

inline rot(r) {
    if
    :: has(durable[r], 1) -> durable[r] = durable[r] & ~1; rotten[r] = rotten[r] | 1
    :: has(durable[r], 2) -> durable[r] = durable[r] & ~2; rotten[r] = rotten[r] | 2
    :: has(durable[r], 3) -> durable[r] = durable[r] & ~4; rotten[r] = rotten[r] | 4
    fi
}

/* Replicas differ in nothing but what they hold, so states that are permutations of each other are
 * one: -DSORTED orders them after each event, which makes the search about five times smaller and a
 * trail hard to read. Planted bugs are searched for without it. */
#ifdef SORTED
#define key(r) ((promised[r] << 26) | (es[r] << 23) | (es_flying[r] << 20) | (here[r] << 17) | \
                (flying[r] << 12) | (durable[r] << 8) | (done[r] << 4) | rotten[r])
#define swap(a, i, j) k = a[i]; a[i] = a[j]; a[j] = k
inline order(i, j) {
    if
    :: key(i) > key(j) ->
        swap(promised, i, j); swap(es, i, j); swap(es_flying, i, j); swap(here, i, j);
        swap(flying, i, j); swap(durable, i, j); swap(done, i, j); swap(rotten, i, j)
    :: else
    fi
}
inline sort() { order(0, 1); order(1, 2); order(0, 1) }
#else
inline sort() { skip }
#endif

/* -DREACH: the search must come upon three epochs that served, each with an acked frame, a replica
 * that went away and is back, and a voided frame that is durable somewhere. Proof that the bounds
 * leave room for what the assertions are about. */
#ifdef REACH
#define REACH_EVENT                                                                                \
    :: served_count >= REACH && voided != 0 && acked != 0 && (durable[2] & voided) != 0 &&         \
       (acked & ~s_mask(1)) != 0 && trips_left < TRIPS && here[2] -> assert(false)
#else
#define REACH_EVENT
#endif
#define s_mask(n) ((f_epoch[1] == n -> 1 : 0) | (f_epoch[2] == n -> 2 : 0) |                       \
                   (f_epoch[3] == n -> 4 : 0) | (f_epoch[4] == n -> 8 : 0))

#ifdef NO_RECOPY
#define LOG_IS_SAFE true
#else
#define LOG_IS_SAFE on_replicas(has_log(0), has_log(1), has_log(2)) >= 2
#endif
#define READ_EVENT(m) :: phase == PROMISE && read_set(m) -> atomic { recovery_read(m) }
#define COMMIT_EVENTS(n)                                                                           \
    :: n <= FRAMES && phase == SERVE && may_commit(n, epoch) -> d_step { commit_frame(n); sort() }         \
    :: n <= FRAMES && deposed != 0 && may_commit(n, deposed) -> d_step { commit_frame(n); sort() }

active proctype box() {
    d_step {
        /* Start 1: a new set, its epoch promised and its start record durable everywhere. */
        k = 0;
        do
        :: k > 2 -> break
        :: else -> here[k] = 1; promised[k] = 1; es[k] = 1; k++
        od;
        starts = 1;
        s_epoch[1] = 1;
        s_next[1] = 1;
        epoch = 1;
        cas = 1;
        served_epoch = 1;
        served_count = 1;
        phase = SERVE
    }
end:
    do
    /* -- Writing (R5, R9) ---------------------------------------------------------------------- */
    :: phase == SERVE && frames < FRAMES && open_below(epoch) -> 
        d_step { make_frame(epoch, starts); sort() }
    :: deposed != 0 && frames < FRAMES && open_below(deposed) ->
        d_step { make_frame(deposed, 1); sort() }
    COMMIT_EVENTS(1)
    COMMIT_EVENTS(2)
#if FRAMES > 2
    COMMIT_EVENTS(3)
#endif
#if FRAMES > 3
    COMMIT_EVENTS(4)
#endif

    /* -- Drives and replicas (R4, R10) --------------------------------------------------------- */
    REPLICA_EVENTS(0)
    REPLICA_EVENTS(1)
    REPLICA_EVENTS(2)
    LAND_EVENTS(0)
    LAND_EVENTS(1)
    LAND_EVENTS(2)

    /* -- Recovery (R2, R6, R8) ----------------------------------------------------------------- */
#ifdef TAKEOVER
    :: phase == DOWN && starts < STARTS ->
        d_step {
            starts++;
            cas++;
            epoch = cas;
            s_epoch[starts] = epoch;
                    phase = PROMISE
        }
#else
    :: phase == DOWN && starts < STARTS && here[0] && here[1] -> d_step { begin(0, 1) }
    :: phase == DOWN && starts < STARTS && here[0] && here[2] -> d_step { begin(0, 2) }
    :: phase == DOWN && starts < STARTS && here[1] && here[2] -> d_step { begin(1, 2) }
#endif
#ifdef READ_ONE_REPLICA
    :: phase == PROMISE && read_set(1) && on_replicas(fenced(0), fenced(1), fenced(2)) >= 2 ->
        atomic { recovery_read(1) }
    :: phase == PROMISE && read_set(2) && on_replicas(fenced(0), fenced(1), fenced(2)) >= 2 ->
        atomic { recovery_read(2) }
#else
    READ_EVENT(3)
    READ_EVENT(5)
    READ_EVENT(6)
    READ_EVENT(7)
#endif
    :: phase == COPY && LOG_IS_SAFE ->
        d_step { phase = START; send_start(0); send_start(1); send_start(2); sort() }
    /* What was still in flight there from before had to land first. */
    :: phase == START && can_write(0) && es[0] != starts && es_flying[0] == 0 ->
        d_step { send_start(0); sort() }
    :: phase == START && can_write(1) && es[1] != starts && es_flying[1] == 0 ->
        d_step { send_start(1); sort() }
    :: phase == START && can_write(2) && es[2] != starts && es_flying[2] == 0 ->
        d_step { send_start(2); sort() }
    :: phase == START && on_replicas(has_start(0), has_start(1), has_start(2)) >= 2 ->
        d_step { serve(); sort() }

    /* -- Crashes (R3, R15) --------------------------------------------------------------------- */
    :: kills_left > 0 && phase != DOWN ->
        d_step {
            kills_left--;
#ifdef TAKEOVER
            if
            :: phase == SERVE && starts == 1 -> deposed = epoch; phase = DOWN; epoch = 0
            :: else -> stop()
            fi;
#else
            stop();     /* what is in flight may still land, whenever it likes */
#endif
            sort()
        }
    :: losses_left > 0 && phase != DOWN ->
        d_step {
            losses_left--;
            stop();
            deposed = 0;
            k = 0;
            do
            :: k > 2 -> break
            :: else -> flying[k] = 0; es_flying[k] = 0; k++
            od;
            forget(1);
            sort()
        }
    REACH_EVENT
    od
}
