package cocabench;

import java.nio.charset.StandardCharsets;
import java.util.Collection;

/**
 * All runs of at most eight words in some texts, by their 64-bit hashes.
 *
 * <p>A collision would let a phrase through that is in no text, and so change no score.
 */
final class Phrases {
    private static final int LONGEST = 8;
    private static final long START = 1469598103934665603L;
    private static final long PRIME = 1099511628211L;
    private long[] hashes = new long[1 << 16];
    private int size = 0;

    Phrases(Collection<String> texts) {
        for (String text : texts) {
            byte[] bytes = text.trim().replaceAll("\\s+", " ").getBytes(StandardCharsets.UTF_8);
            for (int i = 0; i < bytes.length; i++) {
                if (i == 0 || bytes[i - 1] == ' ') {
                    addFrom(bytes, i);
                }
            }
        }
    }

    /** FNV-1a. */
    static long hash(byte[] bytes, int from, int to) {
        long hash = START;
        for (int i = from; i < to; i++) {
            hash = (hash ^ bytes[i]) * PRIME;
        }
        return hash;
    }

    private void addFrom(byte[] bytes, int from) {
        long hash = START;
        int words = 0;
        for (int i = from; i < bytes.length && words < LONGEST; i++) {
            if (bytes[i] == ' ') {
                add(hash);
                words++;
            }
            hash = (hash ^ bytes[i]) * PRIME;
        }
        if (words < LONGEST) {
            add(hash);
        }
    }

    private void add(long hash) {
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
