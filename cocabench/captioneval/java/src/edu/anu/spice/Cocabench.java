package edu.anu.spice;

import edu.stanford.nlp.pipeline.StanfordCoreNLP;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.json.simple.JSONArray;
import org.json.simple.JSONValue;

/**
 * SPICE 1.0's own parser and scorer, without the parts of its main class that no longer run: the JavaScript engine
 * that formats its output left Java with release 15, and its cache needs a native library and closed packages.
 *
 * <p>{@code parse}: lines with a caption (a JSON string) to lines with its tuples, or null if it is too long. {@code score}: lines
 * {@code [tuples of the candidate, [tuples of a reference, ...]]} to lines with true positives, false positives and
 * false negatives, three numbers for each of {@link #CATEGORIES}.
 */
public final class Cocabench {
    private static final TupleFilter[] CATEGORIES = {
        TupleFilter.noFilter, TupleFilter.objectFilter, TupleFilter.relationFilter, TupleFilter.attributeFilter,
        TupleFilter.colorFilter, TupleFilter.cardinalityFilter, TupleFilter.sizeFilter,
    };
    private static final int BATCH = 500;

    /** Captions of more words are parsed one at a time, and of still more not at all. */
    private static final int LONG = 80;

    private static final int LONGEST = 200;

    public static void main(String[] arguments) throws IOException {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, "UTF-8");
        System.setOut(System.err);
        ProcessHandle.current().parent().ifPresent(p -> p.onExit().thenRun(() -> Runtime.getRuntime().halt(1)));
        SpiceParser parser = new SpiceParser(null, 1, true);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        if (arguments[0].equals("parse")) {
            parse(parser, in, out);
        } else {
            score(parser, in, out);
        }
        out.flush();
        System.exit(0);
    }

    private static void parse(SpiceParser parser, BufferedReader in, PrintStream out) throws IOException {
        parser.annotator.pipeline = new StanfordCoreNLP(annotators());
        List<String> captions = new ArrayList<>();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            captions.add((String) JSONValue.parse(line));
        }
        for (int start = 0; start < captions.size(); start += BATCH) {
            List<String> batch = captions.subList(start, Math.min(captions.size(), start + BATCH));
            Map<Boolean, List<String>> byLength = batch.stream().collect(Collectors.partitioningBy(c -> words(c) > LONG));
            Map<String, ArrayList<ArrayList<String>>> tuples = new HashMap<>(parser.generateTuples(byLength.get(false)));
            byLength.get(true).forEach(caption -> tuples.put(caption, alone(parser, caption)));
            for (String caption : batch) {
                out.println(JSONValue.toJSONString(tuples.get(caption)));
            }
            out.flush();
        }
    }

    private static int words(String caption) {
        return caption.split(" ").length;
    }

    /** A long caption's tuples, or null: a parse takes memory by the square of the words, and time by the cube. */
    private static ArrayList<ArrayList<String>> alone(SpiceParser parser, String caption) {
        if (words(caption) > LONGEST) {
            return null;
        }
        try {
            return parser.generateTuples(Collections.singletonList(caption)).get(caption);
        } catch (NullPointerException | OutOfMemoryError noParse) {
            return null;
        }
    }

    /** SPICE's annotators but for {@code ner}: no tuple depends on entities, and they take most of the start. */
    private static Properties annotators() {
        Properties properties = new Properties();
        properties.setProperty("annotators", "tokenize,ssplit,parse,lemma");
        properties.setProperty("depparse.extradependencies", "MAXIMAL");
        return properties;
    }

    private static void score(SpiceParser parser, BufferedReader in, PrintStream out) throws IOException {
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JSONArray pair = (JSONArray) JSONValue.parse(line);
            SceneGraph candidate = graph(parser, Collections.singletonList(pair.get(0)));
            SceneGraph reference = graph(parser, (JSONArray) pair.get(1));
            JSONArray counts = new JSONArray();
            for (TupleFilter filter : CATEGORIES) {
                Evaluation evaluation =
                        new Evaluation(new TupleSet(candidate, filter), new TupleSet(reference, filter), true, true);
                Collections.addAll(counts, evaluation.tp, evaluation.fp, evaluation.fn);
            }
            out.println(counts.toJSONString());
        }
    }

    private static SceneGraph graph(SpiceParser parser, List<?> captions) {
        SceneGraph graph = new SceneGraph(parser.synonyms, true);
        for (Object tuples : captions) {
            for (Object tuple : (JSONArray) tuples) {
                ArrayList<String> words = new ArrayList<>();
                for (Object word : (JSONArray) tuple) {
                    words.add((String) word);
                }
                graph.addTuple(words);
            }
        }
        return graph;
    }
}
