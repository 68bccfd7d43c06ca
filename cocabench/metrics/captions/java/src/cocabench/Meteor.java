package cocabench;

import edu.cmu.meteor.scorer.MeteorConfiguration;
import edu.cmu.meteor.scorer.MeteorScorer;
import edu.cmu.meteor.util.Constants;
import edu.cmu.meteor.util.Normalizer;
import java.io.BufferedReader;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.IntStream;

/**
 * METEOR 1.5's own scorer, {@code -l en -norm}, over all segments at once.
 *
 * <p>Arguments: the paraphrase table, and a file for the part of it that these references can use. Standard input:
 * lines {@code reference ||| reference ||| hypothesis}, UTF-8. Standard output: a line of statistics for each.
 *
 * <p>Where it saves time: the aligner pairs the two phrases of an entry, one in a reference and one in a hypothesis, so
 * entries with neither phrase in a reference are left out (and the others kept in the file for the next run); every distinct text is normalised once; segments run in parallel.
 */
public final class Meteor {
    private static final int LANGUAGE = Constants.LANG_EN;
    private static final Map<String, String> NORMALISED = new ConcurrentHashMap<>();

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, "UTF-8");
        System.setOut(System.err);
        ProcessHandle.current().parent().ifPresent(p -> p.onExit().thenRun(() -> Runtime.getRuntime().halt(1)));
        File table = new File(arguments[0]);
        File part = new File(arguments[1]);
        Paraphrases paraphrases = part.exists() ? null : new Paraphrases(table);
        MeteorScorer warm = part.exists() ? scorer(part) : null;
        List<String[]> segments = read();
        if (paraphrases != null) {
            write(paraphrases, segments, part);
            warm = scorer(part);
        }
        MeteorScorer scorer = warm;
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

    private static void write(Paraphrases paraphrases, List<String[]> segments, File part) throws Exception {
        Set<String> references = ConcurrentHashMap.newKeySet();
        segments.parallelStream()
                .forEach(s -> Arrays.stream(s, 0, s.length - 1).forEach(r -> references.add(normalised(r))));
        File unfinished = File.createTempFile("part", ".gz", part.getParentFile());
        paraphrases.write(references, unfinished);
        Files.move(unfinished.toPath(), part.toPath(), StandardCopyOption.REPLACE_EXISTING);
    }

    private static MeteorScorer scorer(File part) throws IOException {
        MeteorConfiguration configuration = new MeteorConfiguration();
        configuration.setLanguage("en");
        configuration.setNormalization(Constants.NORMALIZE_LC_ONLY);
        configuration.setParaFileURL(part.toURI().toURL());
        return new MeteorScorer(configuration);
    }

    private static String normalised(String text) {
        return NORMALISED.computeIfAbsent(
                text.trim(), t -> Normalizer.normalizeLine(t, LANGUAGE, true).toLowerCase());
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
            String beginning = hypothesis.substring(0, Math.min(80, hypothesis.length()));
            throw new IllegalStateException(
                    "too little memory to align a caption of " + hypothesis.length() + " characters: " + beginning, error);
        }
    }
}
