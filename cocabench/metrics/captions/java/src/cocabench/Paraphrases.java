package cocabench;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.zip.Deflater;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;

/**
 * METEOR's paraphrase table: entries of three lines, a probability and two phrases.
 *
 * <p>It unpacks in a thread of its own from the moment it is made, before the references are known.
 */
final class Paraphrases {
    private static final int BLOCK = 1 << 22;
    private static final byte[] END = new byte[0];
    private final BlockingQueue<byte[]> blocks = new ArrayBlockingQueue<>(128);
    private volatile IOException failure;

    Paraphrases(File table) {
        Thread thread = new Thread(() -> unpack(table), "paraphrases");
        thread.setDaemon(true);
        thread.start();
    }

    private void unpack(File table) {
        try (InputStream in = new GZIPInputStream(new FileInputStream(table), 1 << 18)) {
            for (byte[] block = in.readNBytes(BLOCK); block.length > 0; block = in.readNBytes(BLOCK)) {
                blocks.put(block);
            }
        } catch (IOException problem) {
            failure = problem;
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
        blocks.offer(END);
    }

    /** Write the entries of which one side is a run of words in one of the references, in the table's order. */
    void write(Set<String> references, File part) throws IOException, InterruptedException {
        Phrases phrases = new Phrases(references);
        ByteArrayOutputStream rest = new ByteArrayOutputStream();
        try (OutputStream out = new GZIPOutputStream(new FileOutputStream(part), 1 << 16) {
            {
                def.setLevel(Deflater.BEST_SPEED);
            }
        }) {
            for (byte[] block = blocks.take(); block.length > 0; block = blocks.take()) {
                byte[] bytes = join(rest, block);
                int used = filter(bytes, phrases, out);
                rest.reset();
                rest.write(bytes, used, bytes.length - used);
            }
        }
        if (failure != null) {
            throw failure;
        }
    }

    private static byte[] join(ByteArrayOutputStream rest, byte[] block) {
        if (rest.size() == 0) {
            return block;
        }
        rest.write(block, 0, block.length);
        return rest.toByteArray();
    }

    /** Copy the wanted entries that end in bytes; return where the first unfinished entry starts. */
    private static int filter(byte[] bytes, Phrases phrases, OutputStream out) throws IOException {
        int start = 0; // of the entry
        int line = 0; // of the entry: 0, 1 or 2
        int from = 0; // start of the line
        int hash = 0; // of the line
        boolean wanted = false;
        for (int i = 0; i < bytes.length; i++) {
            byte next = bytes[i];
            if (next != '\n') {
                hash = 31 * hash + next;
                continue;
            }
            wanted |= line > 0 && phrases.contains(hash, bytes, from, i);
            if (line == 2) {
                if (wanted) {
                    out.write(bytes, start, i + 1 - start);
                }
                wanted = false;
                start = i + 1;
            }
            line = (line + 1) % 3;
            from = i + 1;
            hash = 0;
        }
        return start;
    }

    /** All runs of words in the references, found by hash first: five million look-ups without making a String. */
    private static final class Phrases {
        private static final int LONGEST = 8;
        private static final int SPREAD = 0x9E3779B9;
        private final Set<String> texts = new HashSet<>();
        private final long[] seen = new long[1 << 18];

        Phrases(Set<String> references) {
            for (String reference : references) {
                String[] words = reference.trim().split("\\s+");
                for (int i = 0; i < words.length; i++) {
                    StringBuilder phrase = new StringBuilder();
                    for (int j = i; j < Math.min(words.length, i + LONGEST); j++) {
                        add(phrase.append(j > i ? " " : "").append(words[j]).toString());
                    }
                }
            }
        }

        private void add(String phrase) {
            if (texts.add(phrase)) {
                int hash = 0;
                for (byte next : phrase.getBytes(StandardCharsets.UTF_8)) {
                    hash = 31 * hash + next;
                }
                int place = hash * SPREAD;
                seen[place >>> 14] |= 1L << (place >>> 8);
            }
        }

        boolean contains(int hash, byte[] bytes, int from, int to) {
            int place = hash * SPREAD;
            return (seen[place >>> 14] & 1L << (place >>> 8)) != 0
                    && texts.contains(new String(bytes, from, to - from, StandardCharsets.UTF_8));
        }
    }
}
