package cocabench;

import edu.cmu.meteor.scorer.MeteorConfiguration;
import edu.cmu.meteor.scorer.MeteorScorer;
import edu.cmu.meteor.util.Constants;
import edu.cmu.meteor.util.Normalizer;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.net.URL;
import java.net.URLConnection;
import java.net.URLStreamHandler;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * METEOR 1.5's own scorer, {@code -l en -norm}, over all segments at once.
 *
 * <p>Arguments: the paraphrase table, and a file for the part of it that these references can use. Standard input:
 * lines {@code reference ||| reference ||| hypothesis}, UTF-8. Standard output: a line of statistics for each.
 *
 * <p>Where it saves time: the aligner pairs the two phrases of an entry, one in a reference and one in a hypothesis, so
 * entries without a phrase in a reference are left out (the others are kept in the file for the next run), and then all
 * that cannot pair; every distinct text is normalised once; segments run in parallel.
 */
public final class Meteor {
    private static final Map<String, String> NORMALISED = new ConcurrentHashMap<>();
    private static final int SHOWN = 80;

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, "UTF-8");
        System.setOut(System.err);
        ProcessHandle.current().parent().ifPresent(p -> p.onExit().thenRun(() -> Runtime.getRuntime().halt(1)));
        File part = new File(arguments[1]);
        Paraphrases table = new Paraphrases(part.exists() ? part : new File(arguments[0]));
        CompletableFuture<byte[]> paraphrases = new CompletableFuture<>();
        CompletableFuture<MeteorScorer> loading = CompletableFuture.supplyAsync(() -> scorer(paraphrases));
        Normalizer.normalizeLine("", Constants.LANG_EN, true); // loads what it shares between threads
        List<String[]> segments = read();
        Phrases references = phrases(segments, s -> Arrays.stream(s, 0, s.length - 1));
        if (!part.exists()) {
            keep(table.only(references, null), part);
            table = new Paraphrases(part);
        }
        paraphrases.complete(table.only(references, phrases(segments, s -> Stream.of(s[s.length - 1]))));
        MeteorScorer scorer = loading.get();
        ThreadLocal<MeteorScorer> scorers = ThreadLocal.withInitial(() -> new MeteorScorer(scorer));
        try {
            IntStream.range(0, segments.size())
                    .parallel()
                    .mapToObj(i -> score(scorers.get(), segments.get(i)))
                    .forEachOrdered(out::println);
        } catch (IllegalStateException problem) {
            System.err.println(problem.getMessage());
            System.exit(1);
        }
        out.flush();
        System.exit(0);
    }

    private static List<String[]> read() throws IOException {
        List<String[]> segments = new ArrayList<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            segments.add(line.split("\\|\\|\\|"));
        }
        return segments;
    }

    private static Phrases phrases(List<String[]> segments, Function<String[], Stream<String>> some) {
        return new Phrases(segments.parallelStream().flatMap(some).map(Meteor::normalised).collect(Collectors.toSet()));
    }

    private static void keep(byte[] table, File part) throws IOException {
        File unfinished = File.createTempFile("part", ".gz", part.getParentFile());
        Files.write(unfinished.toPath(), table);
        Files.move(unfinished.toPath(), part.toPath(), StandardCopyOption.REPLACE_EXISTING);
    }

    /** The scorer, which loads WordNet's synonyms first and then waits for its paraphrases. */
    private static MeteorScorer scorer(CompletableFuture<byte[]> paraphrases) {
        try {
            URL.setURLStreamHandlerFactory(protocol -> protocol.equals("paraphrases") ? handler(paraphrases) : null);
            MeteorConfiguration configuration = new MeteorConfiguration();
            configuration.setLanguage("en");
            configuration.setNormalization(Constants.NORMALIZE_LC_ONLY);
            configuration.setParaFileURL(new URL("paraphrases:used"));
            return new MeteorScorer(configuration);
        } catch (IOException problem) {
            throw new UncheckedIOException(problem);
        }
    }

    private static URLStreamHandler handler(CompletableFuture<byte[]> table) {
        return new URLStreamHandler() {
            @Override
            protected URLConnection openConnection(URL url) {
                return new URLConnection(url) {
                    @Override
                    public void connect() {}

                    @Override
                    public InputStream getInputStream() {
                        return new ByteArrayInputStream(table.join());
                    }
                };
            }
        };
    }

    /** As {@code -norm} does. Lower-case ASCII words between single spaces stay as they are, and save its many patterns. */
    private static String normalised(String text) {
        String trimmed = text.trim();
        return plain(trimmed)
                ? trimmed
                : NORMALISED.computeIfAbsent(
                        trimmed, t -> Normalizer.normalizeLine(t, Constants.LANG_EN, true).toLowerCase());
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

    private static String score(MeteorScorer scorer, String[] parts) {
        ArrayList<String> references = new ArrayList<>();
        for (int i = 0; i < parts.length - 1; i++) {
            references.add(normalised(parts[i]));
        }
        String hypothesis = normalised(parts[parts.length - 1]);
        try {
            return scorer.getMeteorStats(hypothesis, references).toString();
        } catch (OutOfMemoryError error) {
            String shown = hypothesis.substring(0, Math.min(SHOWN, hypothesis.length()));
            throw new IllegalStateException(
                    "too little memory to align a caption of " + hypothesis.length() + " characters: " + shown, error);
        }
    }
}
