package cocabench;

/**
 * A set of texts by their 64-bit hashes (FNV-1a), each of which sets two bits (a Bloom filter).
 *
 * <p>Of texts that are not in it, it takes about one in a thousand for one that is, one in two hundred of the largest
 * sets. This lets through what no text has, and so changes no score.
 */
final class Hashes {
    static final long START = 1469598103934665603L;
    private static final long PRIME = 1099511628211L;
    private static final long GOLDEN = 0x9E3779B97F4A7C15L;
    private static final int BITS_EACH = 64;
    private static final int LARGEST = 30; // as a power of two of bits: 128 MiB
    private final long[] bits;
    private final int power;

    /** room: how many hashes will be added, at most. */
    Hashes(long room) {
        int enough = 16;
        while (enough < LARGEST && 1L << enough < room * BITS_EACH) {
            enough++;
        }
        power = enough;
        bits = new long[1 << power - 6];
    }

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
        int one = one(hash);
        int other = other(hash);
        bits[one >> 6] |= 1L << one;
        bits[other >> 6] |= 1L << other;
    }

    boolean contains(long hash) {
        int one = one(hash);
        int other = other(hash);
        return (bits[one >> 6] >>> one & bits[other >> 6] >>> other & 1) != 0;
    }

    private int one(long hash) {
        return (int) (hash * GOLDEN >>> 64 - power);
    }

    private int other(long hash) {
        return (int) (hash & (1L << power) - 1);
    }
}
