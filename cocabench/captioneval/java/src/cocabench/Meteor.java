package cocabench;

import edu.cmu.meteor.util.Constants;
import edu.cmu.meteor.util.Normalizer;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;

/**
 * METEOR 1.5, {@code -l en -norm}, over all segments at once.
 *
 * <p>Arguments: the paraphrase table, and a file for the part of it that these references can use. Standard input:
 * lines {@code reference ||| reference ||| hypothesis}, UTF-8. Standard output: METEOR's line of statistics for each.
 *
 * <p>Words, stems, synonyms and paraphrases are METEOR's own; the alignment is {@link Aligner}'s. An entry of the table
 * pairs a phrase of a reference with one of a hypothesis: entries without a phrase in a reference are left out (the
 * others are kept in the file for the next run), and then all that cannot pair. Segments run in parallel.
 */
public final class Meteor {
    private static final int LONGEST = 8; // words of a phrase in the table, one more than there are
    private static final int SHOWN = 80;

    private final Words words = new Words();
    private final Map<String, int[]> texts = new HashMap<>();
    private final List<int[][]> segments = new ArrayList<>();
    private CompletableFuture<Void> keeping = CompletableFuture.completedFuture(null);

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, "UTF-8");
        System.setOut(System.err);
        ProcessHandle.current().parent().ifPresent(p -> p.onExit().thenRun(() -> Runtime.getRuntime().halt(1)));
        try {
            new Meteor().run(new File(arguments[0]), new File(arguments[1]), out);
        } catch (IllegalStateException problem) {
            System.err.println(problem.getMessage());
            System.exit(1);
        }
        System.exit(0);
    }

    private void run(File whole, File part, PrintStream out) throws Exception {
        boolean kept = part.exists();
        Paraphrases table = new Paraphrases(kept ? part : whole);
        Wordnet wordnet = new Wordnet();
        read();
        CompletableFuture<Void> learning = background(() -> words.learn(wordnet.of(words.all())));
        Aligner aligner = new Aligner(words, new Table(kept ? only(table) : kept(table, part), words));
        learning.join();
        segments.parallelStream().map(segment -> best(aligner, segment)).forEachOrdered(out::println);
        out.flush();
        keeping.join();
    }

    /** Return the entries that pair a reference with a hypothesis. */
    private byte[] only(Paraphrases table) throws Exception {
        return table.only(phrases(true), phrases(false));
    }

    /** Do the same, and keep those of the references in a file. */
    private byte[] kept(Paraphrases table, File part) throws Exception {
        Hashes references = phrases(true);
        byte[] entries = table.only(references, null);
        keeping = background(() -> keep(entries, part));
        ByteArrayOutputStream pairing = new ByteArrayOutputStream();
        Paraphrases.filter(entries, references, phrases(false), pairing);
        return pairing.toByteArray();
    }

    /** Keep the part for the next run; where that cannot be, this one goes on all the same. */
    private static void keep(byte[] entries, File part) {
        try {
            Paraphrases.keep(entries, part);
        } catch (IOException problem) {
            System.err.println(part + ": cannot be kept (" + problem.getMessage() + ")");
        }
    }

    private interface Work {
        void run() throws IOException;
    }

    private static CompletableFuture<Void> background(Work work) {
        return CompletableFuture.runAsync(() -> {
            try {
                work.run();
            } catch (IOException problem) {
                throw new UncheckedIOException(problem);
            }
        });
    }

    /** Read all segments: the references' words, then the hypothesis'. */
    private void read() throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 16);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            segments.add(Arrays.stream(line.split("\\|\\|\\|")).map(this::numbers).toArray(int[][]::new));
        }
        texts.clear();
    }

    private int[] numbers(String text) {
        return texts.computeIfAbsent(text.trim(), trimmed -> words.read(normalised(trimmed)));
    }

    /** As {@code -norm} does. Lower-case ASCII words between single spaces stay as they are, and save its many patterns. */
    private static String normalised(String text) {
        return plain(text) ? text : Normalizer.normalizeLine(text, Constants.LANG_EN, true).toLowerCase();
    }

    private static boolean plain(String text) {
        char last = 0;
        for (int i = 0; i < text.length(); i++) {
            char next = text.charAt(i);
            if ((next < 'a' || next > 'z') && (next != ' ' || last == ' ')) {
                return false;
            }
            last = next;
        }
        return true;
    }

    /** Return all runs of at most LONGEST words in the references, or in the hypotheses. */
    private Hashes phrases(boolean ofReferences) {
        byte[][] bytes = words.all().stream().map(w -> w.getBytes(StandardCharsets.UTF_8)).toArray(byte[][]::new);
        Hashes found = new Hashes(texts(ofReferences).mapToLong(text -> (long) LONGEST * text.length).sum());
        texts(ofReferences).forEach(text -> addRuns(text, bytes, found));
        return found;
    }

    private Stream<int[]> texts(boolean ofReferences) {
        return segments.stream().flatMap(segment -> {
            int last = segment.length - 1;
            return Arrays.stream(segment, ofReferences ? 0 : last, ofReferences ? last : last + 1);
        });
    }

    private static void addRuns(int[] text, byte[][] bytes, Hashes found) {
        for (int from = 0; from < text.length; from++) {
            long hash = Hashes.START;
            for (int i = from; i < Math.min(from + LONGEST, text.length); i++) {
                hash = Hashes.next(i == from ? hash : Hashes.next(hash, (byte) ' '), bytes[text[i]]);
                found.add(hash);
            }
        }
    }

    /** Return the statistics of the reference that scores best, the first of several. */
    private Segment best(Aligner aligner, int[][] segment) {
        int[] hypothesis = segment[segment.length - 1];
        Segment best = new Segment();
        double highest = -1;
        try {
            for (int i = 0; i < segment.length - 1; i++) {
                Segment one = Segment.of(aligner.align(hypothesis, segment[i]), hypothesis, segment[i], words);
                double score = one.score();
                if (score > highest) {
                    best = one;
                    highest = score;
                }
            }
        } catch (OutOfMemoryError error) {
            String text = Arrays.stream(hypothesis).limit(SHOWN).mapToObj(words.all()::get).reduce("", (a, b) -> a + " " + b);
            String shown = text.trim().substring(0, Math.min(SHOWN, text.trim().length()));
            throw new IllegalStateException(
                    "too little memory to align a caption of " + hypothesis.length + " words: " + shown, error);
        }
        return best;
    }
}
