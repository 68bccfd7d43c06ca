package cocabench;

/**
 * A set of texts by their 64-bit hashes (FNV-1a).
 *
 * <p>A collision would let through what no text has, and so change no score.
 */
final class Hashes {
    static final long START = 1469598103934665603L;
    private static final long PRIME = 1099511628211L;
    private long[] hashes = new long[1 << 16];
    private int size = 0;

    /** Return the hash of what hash stands for and one byte more. */
    static long next(long hash, byte more) {
        return (hash ^ more) * PRIME;
    }

    static long next(long hash, byte[] more) {
        for (byte one : more) {
            hash = next(hash, one);
        }
        return hash;
    }

    void add(long hash) {
        int place = place(hash);
        if (hashes[place] != hash) {
            hashes[place] = hash;
            if (++size * 4 > hashes.length) {
                grow();
            }
        }
    }

    private void grow() {
        long[] old = hashes;
        hashes = new long[2 * old.length];
        for (long hash : old) {
            if (hash != 0) {
                hashes[place(hash)] = hash;
            }
        }
    }

    boolean contains(long hash) {
        return hashes[place(hash)] == hash;
    }

    /** Where hash stands, or would. */
    private int place(long hash) {
        int place = (int) (hash ^ hash >>> 32) & hashes.length - 1;
        while (hashes[place] != 0 && hashes[place] != hash) {
            place = place + 1 & hashes.length - 1;
        }
        return place;
    }
}
