package cocabench;

import edu.cmu.meteor.aligner.SynonymDictionary;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URL;
import java.net.URLConnection;
import java.net.URLStreamHandler;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;

/** METEOR's own synonym dictionary, of the lines alone that some words can reach. */
final class Wordnet {
    /** The endings that the dictionary takes off, and what it puts in their place. */
    private static final String[][] ENDINGS = {
        {"s", ""}, {"ses", "s"}, {"xes", "x"}, {"zes", "z"}, {"ches", "ch"}, {"shes", "sh"}, {"men", "man"},
        {"ies", "y"}, {"ies", "ie"}, {"es", "e"}, {"es", ""}, {"ed", "e"}, {"ed", ""}, {"ing", "e"}, {"ing", ""},
        {"er", ""}, {"est", ""}, {"er", "e"}, {"est", "e"},
    };

    private final CompletableFuture<byte[]> exceptions = read("synonym/english.exceptions");
    private final CompletableFuture<byte[]> synsets = read("synonym/english.synsets");

    private static CompletableFuture<byte[]> read(String resource) {
        return CompletableFuture.supplyAsync(() -> {
            try (InputStream in = ClassLoader.getSystemResourceAsStream(resource)) {
                return in.readAllBytes();
            } catch (IOException problem) {
                throw new java.io.UncheckedIOException(problem);
            }
        });
    }

    SynonymDictionary of(List<String> words) throws IOException {
        byte[] irregular = exceptions.join();
        Set<String> wanted = new HashSet<>();
        for (String word : words) {
            addBases(word, wanted);
        }
        String[] lines = new String(irregular, StandardCharsets.UTF_8).split("\n");
        for (int i = 0; i < lines.length; i += 2) {
            wanted.add(lines[i]); // the base of what stands on the next line
        }
        return new SynonymDictionary(url(irregular), url(only(synsets.join(), wanted)), url(new byte[0]));
    }

    /** Add a word and all that its endings can be cut to: more than the dictionary asks for. */
    private static void addBases(String word, Set<String> wanted) {
        String whole = word.endsWith("ful") ? word.substring(0, word.lastIndexOf('f')) : word;
        wanted.add(word);
        wanted.add(whole);
        for (String[] ending : ENDINGS) {
            if (whole.endsWith(ending[0])) {
                String base = word.substring(0, word.length() - ending[0].length()) + ending[1];
                wanted.add(base);
                wanted.add(base + "ful");
            }
        }
    }

    /** Return the pairs of lines, a word and its sets, of wanted words. */
    private static byte[] only(byte[] table, Set<String> wanted) {
        Hashes keys = new Hashes(wanted.size());
        wanted.forEach(key -> keys.add(Hashes.next(Hashes.START, key.getBytes(StandardCharsets.UTF_8))));
        ByteArrayOutputStream kept = new ByteArrayOutputStream();
        for (int start = 0; start < table.length; ) {
            long hash = Hashes.START;
            int i = start;
            for (; table[i] != '\n'; i++) {
                hash = Hashes.next(hash, table[i]);
            }
            while (++i < table.length && table[i] != '\n') {}
            int end = Math.min(i + 1, table.length);
            if (keys.contains(hash)) {
                kept.write(table, start, end - start);
            }
            start = end;
        }
        return kept.toByteArray();
    }

    private static URL url(byte[] content) throws IOException {
        return new URL(null, "memory:", new URLStreamHandler() {
            @Override
            protected URLConnection openConnection(URL url) {
                return new URLConnection(url) {
                    @Override
                    public void connect() {}

                    @Override
                    public InputStream getInputStream() {
                        return new ByteArrayInputStream(content);
                    }
                };
            }
        });
    }
}
