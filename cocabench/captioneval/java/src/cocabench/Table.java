package cocabench;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/** The paraphrases that can pair two of the texts, as a tree over their first phrases' words. */
final class Table {
    /** Told of a phrase in one text whose paraphrase is in the other. */
    interface Pair {
        void found(int start, int length, int otherStart, int otherLength);
    }

    private static final class Node {
        final Map<Integer, Node> next = new HashMap<>(2);
        int[][] paraphrases = new int[0][];
    }

    private final Node root = new Node();

    /** entries: lines of a probability and two phrases, as {@link Paraphrases} gives them. */
    Table(byte[] entries, Words words) {
        for (int start = 0; start < entries.length; ) {
            int first = lineAfter(entries, start);
            int second = lineAfter(entries, first);
            start = lineAfter(entries, second);
            int[] phrase = numbers(new String(entries, first, second - 1 - first, StandardCharsets.UTF_8), words);
            int[] paraphrase = numbers(new String(entries, second, start - 1 - second, StandardCharsets.UTF_8), words);
            if (phrase != null && paraphrase != null) {
                add(phrase, paraphrase);
            }
        }
    }

    private static int lineAfter(byte[] entries, int place) {
        int i = place;
        while (entries[i] != '\n') {
            i++;
        }
        return i + 1;
    }

    /** Return a phrase's words, null where one is in no text. */
    private static int[] numbers(String phrase, Words words) {
        String[] parts = phrase.split(" ");
        int[] found = new int[parts.length];
        for (int i = 0; i < parts.length; i++) {
            if ((found[i] = words.number(parts[i])) < 0) {
                return null;
            }
        }
        return found;
    }

    private void add(int[] phrase, int[] paraphrase) {
        Node node = root;
        for (int word : phrase) {
            node = node.next.computeIfAbsent(word, w -> new Node());
        }
        node.paraphrases = Arrays.copyOf(node.paraphrases, node.paraphrases.length + 1);
        node.paraphrases[node.paraphrases.length - 1] = paraphrase;
    }

    /** Tell pair of all, by place in the text, length of the phrase, order in the table, and place in the other text. */
    void pairs(int[] text, int[] other, Pair pair) {
        long there = 0;
        for (int word : other) {
            there |= 1L << word;
        }
        for (int i = 0; i < text.length; i++) {
            Node node = root.next.get(text[i]);
            for (int length = 1; node != null; length++) {
                for (int[] paraphrase : node.paraphrases) {
                    if ((there >>> paraphrase[0] & 1) != 0) {
                        places(i, length, paraphrase, other, pair);
                    }
                }
                node = i + length < text.length ? node.next.get(text[i + length]) : null;
            }
        }
    }

    private static void places(int start, int length, int[] paraphrase, int[] other, Pair pair) {
        for (int j = 0; j + paraphrase.length <= other.length; j++) {
            if (Arrays.equals(other, j, j + paraphrase.length, paraphrase, 0, paraphrase.length)) {
                pair.found(start, length, j, paraphrase.length);
            }
        }
    }
}
