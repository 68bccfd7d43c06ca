package cocabench;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
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
    private static final int BLOCK = 1 << 20;
    private static final byte[] END = new byte[0];
    private final BlockingQueue<byte[]> blocks = new ArrayBlockingQueue<>(512);
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

    /** Return the entries with one phrase in each set, in the table's order. Null is a set of all. */
    byte[] only(Hashes references, Hashes hypotheses) throws IOException, InterruptedException {
        ByteArrayOutputStream kept = new ByteArrayOutputStream(BLOCK);
        ByteArrayOutputStream rest = new ByteArrayOutputStream();
        for (byte[] block = blocks.take(); block.length > 0; block = blocks.take()) {
            byte[] bytes = join(rest, block);
            int used = filter(bytes, references, hypotheses, kept);
            rest.reset();
            rest.write(bytes, used, bytes.length - used);
        }
        if (failure != null) {
            throw failure;
        }
        return kept.toByteArray();
    }

    private static byte[] join(ByteArrayOutputStream rest, byte[] block) {
        if (rest.size() == 0) {
            return block;
        }
        rest.write(block, 0, block.length);
        return rest.toByteArray();
    }

    /** Copy the wanted entries that end in bytes; return where the first unfinished entry starts. */
    static int filter(byte[] bytes, Hashes references, Hashes hypotheses, ByteArrayOutputStream out) {
        int n = bytes.length;
        for (int start = 0, i = 0; ; start = i) {
            while (i < n && bytes[i] != '\n') {
                i++;
            }
            long one = Hashes.START;
            for (i++; i < n && bytes[i] != '\n'; i++) {
                one = Hashes.next(one, bytes[i]);
            }
            long other = Hashes.START;
            for (i++; i < n && bytes[i] != '\n'; i++) {
                other = Hashes.next(other, bytes[i]);
            }
            if (i++ >= n) {
                return start;
            }
            if (pairs(references, hypotheses, one, other) || pairs(references, hypotheses, other, one)) {
                out.write(bytes, start, i - start);
            }
        }
    }

    private static boolean pairs(Hashes references, Hashes hypotheses, long one, long other) {
        return references.contains(one) && (hypotheses == null || hypotheses.contains(other));
    }

    /** Write entries, packed, to a file that is there whole or not at all. */
    static void keep(byte[] entries, File file) throws IOException {
        File unfinished = File.createTempFile("part", ".gz", file.getParentFile());
        try {
            try (OutputStream out = new Packer(new FileOutputStream(unfinished))) {
                out.write(entries);
            }
            Files.move(unfinished.toPath(), file.toPath(), StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(unfinished.toPath());
        }
    }

    private static final class Packer extends GZIPOutputStream {
        Packer(OutputStream out) throws IOException {
            super(out, 1 << 16);
            def.setLevel(Deflater.BEST_SPEED);
        }
    }
}
