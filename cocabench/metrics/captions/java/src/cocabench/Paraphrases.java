package cocabench;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.Arrays;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.zip.Deflater;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;

/**
 * METEOR's paraphrase table: entries of three lines, a probability and two phrases.
 *
 * <p>It unpacks in a thread of its own from the moment it is made, before the texts are known.
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
            int filled = BLOCK;
            while (filled == BLOCK) {
                byte[] block = new byte[BLOCK];
                filled = in.readNBytes(block, 0, BLOCK);
                blocks.put(filled == BLOCK ? block : Arrays.copyOf(block, filled));
            }
        } catch (IOException problem) {
            failure = problem;
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
        blocks.offer(END);
    }

    /** Return the entries, packed again, with one phrase in each set, in the table's order. Null is a set of all. */
    byte[] only(Phrases references, Phrases hypotheses) throws IOException, InterruptedException {
        ByteArrayOutputStream packed = new ByteArrayOutputStream();
        ByteArrayOutputStream rest = new ByteArrayOutputStream();
        try (OutputStream out = new Packer(packed)) {
            for (byte[] block = blocks.take(); block.length > 0; block = blocks.take()) {
                byte[] bytes = join(rest, block);
                int used = filter(bytes, references, hypotheses, out);
                rest.reset();
                rest.write(bytes, used, bytes.length - used);
            }
        }
        if (failure != null) {
            throw failure;
        }
        return packed.toByteArray();
    }

    private static final class Packer extends GZIPOutputStream {
        Packer(OutputStream out) throws IOException {
            super(out, 1 << 16);
            def.setLevel(Deflater.BEST_SPEED);
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
    private static int filter(byte[] bytes, Phrases references, Phrases hypotheses, OutputStream out)
            throws IOException {
        int start = 0;
        while (true) {
            int first = lineEnd(bytes, start) + 1;
            int second = first == 0 ? 0 : lineEnd(bytes, first) + 1;
            int next = second == 0 ? 0 : lineEnd(bytes, second) + 1;
            if (next == 0) {
                return start;
            }
            long one = Phrases.hash(bytes, first, second - 1);
            long other = Phrases.hash(bytes, second, next - 1);
            if (pairs(references, hypotheses, one, other) || pairs(references, hypotheses, other, one)) {
                out.write(bytes, start, next - start);
            }
            start = next;
        }
    }

    /** Return where the line that holds from ends, or -1 where it is unfinished. */
    private static int lineEnd(byte[] bytes, int from) {
        for (int i = from; i < bytes.length; i++) {
            if (bytes[i] == '\n') {
                return i;
            }
        }
        return -1;
    }

    private static boolean pairs(Phrases references, Phrases hypotheses, long one, long other) {
        return references.contains(one) && (hypotheses == null || hypotheses.contains(other));
    }
}
