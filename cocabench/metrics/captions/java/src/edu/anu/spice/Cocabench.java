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
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.json.simple.JSONArray;
import org.json.simple.JSONValue;

/**
 * SPICE 1.0's own parser and scorer, without the parts of its main class that no longer run: the JavaScript engine
 * that formats its output left Java with release 15, and its cache needs a native library and closed packages.
 *
 * <p>{@code parse}: lines with a caption (a JSON string) to lines with its tuples. {@code score}: lines
 * {@code [tuples of the candidate, [tuples of a reference, ...]]} to lines with true positives, false positives and
 * false negatives, three numbers for each of {@link #CATEGORIES}.
 */
public final class Cocabench {
    private static final TupleFilter[] CATEGORIES = {
        TupleFilter.noFilter, TupleFilter.objectFilter, TupleFilter.relationFilter, TupleFilter.attributeFilter,
        TupleFilter.colorFilter, TupleFilter.cardinalityFilter, TupleFilter.sizeFilter,
    };
    private static final int BATCH = 500;

    public static void main(String[] arguments) throws IOException {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false, "UTF-8");
        System.setOut(System.err);
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
            Map<String, ArrayList<ArrayList<String>>> tuples = parser.generateTuples(batch);
            for (String caption : batch) {
                out.println(JSONValue.toJSONString(tuples.get(caption)));
            }
            out.flush();
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
