package cocabench;

import edu.cmu.meteor.aligner.SynonymDictionary;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.StringTokenizer;
import org.tartarus.snowball.ext.englishStemmer;

/** The distinct words of all texts as numbers, and what METEOR asks of a word, found out once for each. */
final class Words {
    private static final int[] NONE = new int[0];
    private final Map<String, Integer> numbers = new HashMap<>();
    private final List<String> words = new ArrayList<>();

    /** As METEOR compares words and stems. */
    int[] form;

    int[] stem;

    /** WordNet's sets of each word and of its base forms, ascending, and 64 bits that sets in common share. */
    int[][] synsets;

    long[] synsetBits;
    boolean[] function;


    List<String> all() {
        return words;
    }

    /** Return the number of a word, -1 where no text has it. */
    int number(String word) {
        return numbers.getOrDefault(word, -1);
    }

    /** Return a text's words; new ones are given the next numbers. */
    int[] read(String text) {
        StringTokenizer tokens = new StringTokenizer(text);
        int[] found = new int[tokens.countTokens()];
        for (int i = 0; i < found.length; i++) {
            String word = tokens.nextToken();
            Integer number = numbers.putIfAbsent(word, words.size());
            if (number == null) {
                number = words.size();
                words.add(word);
            }
            found[i] = number;
        }
        return found;
    }

    /** Look all words up. */
    void learn(SynonymDictionary wordnet) throws IOException {
        int n = words.size();
        form = new int[n];
        stem = new int[n];
        synsets = new int[n][];
        synsetBits = new long[n];
        function = new boolean[n];
        Set<String> functionWords = functionWords();
        englishStemmer stemmer = new englishStemmer();
        for (int i = 0; i < n; i++) {
            String word = words.get(i);
            form[i] = word.hashCode();
            stemmer.setCurrent(word);
            stemmer.stem();
            stem[i] = stemmer.getCurrent().hashCode();
            function[i] = functionWords.contains(word.toLowerCase());
            synsets[i] = synsets(wordnet, word);
            for (int set : synsets[i]) {
                synsetBits[i] |= 1L << set;
            }
        }
    }

    private static int[] synsets(SynonymDictionary wordnet, String word) {
        Set<Integer> sets = new HashSet<>(wordnet.getSynSets(word));
        sets.addAll(wordnet.getStemSynSets(word));
        return sets.isEmpty() ? NONE : sets.stream().mapToInt(Integer::intValue).sorted().toArray();
    }

    private static Set<String> functionWords() throws IOException {
        Set<String> found = new HashSet<>();
        try (BufferedReader in = new BufferedReader(new InputStreamReader(
                ClassLoader.getSystemResourceAsStream("function/english.words"), StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                found.add(line);
            }
        }
        return found;
    }

    /** Whether two words are in one of WordNet's sets. */
    boolean synonyms(int one, int other) {
        if ((synsetBits[one] & synsetBits[other]) == 0) {
            return false;
        }
        int[] first = synsets[one];
        int[] second = synsets[other];
        for (int i = 0, j = 0; i < first.length && j < second.length; ) {
            if (first[i] == second[j]) {
                return true;
            }
            if (first[i] < second[j]) {
                i++;
            } else {
                j++;
            }
        }
        return false;
    }
}
