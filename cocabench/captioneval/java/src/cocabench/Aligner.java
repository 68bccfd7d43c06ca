package cocabench;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * METEOR 1.5's alignment of a hypothesis with a reference, on numbers instead of strings.
 *
 * <p>It finds the matches in the order of METEOR's own matchers, and searches among them as its own aligner does, ties
 * and rounding included: tests hold it against the jar. What a word needs is looked up in {@link Words}.
 */
final class Aligner {
    static final int MODULES = 4;
    private static final int BEAM = 40;
    private static final double[] WEIGHTS = {1.0, 0.5, 0.5, 0.5};

    /** A phrase of the hypothesis that matches one of the reference; start and length are the reference's. */
    static final class Match {
        final int module;
        final int start;
        final int length;
        final int testStart;
        final int testLength;

        Match(int module, int start, int length, int testStart, int testLength) {
            this.module = module;
            this.start = start;
            this.length = length;
            this.testStart = testStart;
            this.testLength = testLength;
        }
    }

    private final Words words;
    private final Table table;

    Aligner(Words words, Table table) {
        this.words = words;
        this.table = table;
    }

    /** Return the chosen match at each place of the reference, null where none starts. */
    Match[] align(int[] test, int[] reference) {
        Stage stage = new Stage(test.length, reference.length);
        matchExactly(test, reference, stage);
        if (!sameForms(test, reference)) {
            matchStems(test, reference, stage);
            matchSynonyms(test, reference, stage);
            matchPhrases(test, reference, stage);
        }
        return resolve(stage, unambiguous(stage));
    }

    private boolean sameForms(int[] test, int[] reference) {
        if (test.length != reference.length) {
            return false;
        }
        for (int i = 0; i < test.length; i++) {
            if (words.form[test[i]] != words.form[reference[i]]) {
                return false;
            }
        }
        return true;
    }

    private void matchExactly(int[] test, int[] reference, Stage stage) {
        for (int i = 0; i < reference.length; i++) {
            for (int j = 0; j < test.length; j++) {
                if (words.form[test[j]] == words.form[reference[i]]) {
                    stage.add(new Match(0, i, 1, j, 1));
                }
            }
        }
    }

    private void matchStems(int[] test, int[] reference, Stage stage) {
        for (int i = 0; i < reference.length; i++) {
            for (int j = 0; j < test.length; j++) {
                if (words.stem[test[j]] == words.stem[reference[i]]
                        && words.form[test[j]] != words.form[reference[i]]) {
                    stage.add(new Match(1, i, 1, j, 1));
                }
            }
        }
    }

    private void matchSynonyms(int[] test, int[] reference, Stage stage) {
        for (int i = 0; i < reference.length; i++) {
            for (int j = 0; j < test.length; j++) {
                if (words.synonyms(test[j], reference[i]) && words.form[test[j]] != words.form[reference[i]]) {
                    stage.add(new Match(2, i, 1, j, 1));
                }
            }
        }
    }

    private void matchPhrases(int[] test, int[] reference, Stage stage) {
        table.pairs(reference, test, (start, length, otherStart, otherLength) ->
                stage.add(new Match(3, start, length, otherStart, otherLength)));
        table.pairs(test, reference, (start, length, otherStart, otherLength) ->
                stage.add(new Match(3, otherStart, otherLength, start, length)));
    }

    /** All matches by their place in the reference, and how many of them cover each word. */
    private static final class Stage {
        final List<List<Match>> matches = new ArrayList<>();
        final int[] testCover;
        final int[] cover;

        Stage(int testLength, int length) {
            testCover = new int[testLength];
            cover = new int[length];
            for (int i = 0; i < length; i++) {
                matches.add(new ArrayList<>(4));
            }
        }

        void add(Match match) {
            matches.get(match.start).add(match);
            for (int i = 0; i < match.length; i++) {
                cover[match.start + i]++;
            }
            for (int i = 0; i < match.testLength; i++) {
                testCover[match.testStart + i]++;
            }
        }

        boolean alone(Match match) {
            for (int i = 0; i < match.length; i++) {
                if (cover[match.start + i] != 1) {
                    return false;
                }
            }
            for (int i = 0; i < match.testLength; i++) {
                if (testCover[match.testStart + i] != 1) {
                    return false;
                }
            }
            return true;
        }
    }

    /** An alignment of the reference up to some place. */
    private static final class Partial implements Comparable<Partial> {
        final Match[] matches;
        final boolean[] used;
        final boolean[] testUsed;
        int weight;
        int testWeight;
        int chunks;
        int next;
        int lastEnd = -1;
        int distance;

        Partial(int testLength, int length) {
            matches = new Match[length];
            used = new boolean[length];
            testUsed = new boolean[testLength];
        }

        Partial(Partial other) {
            matches = other.matches.clone();
            used = other.used.clone();
            testUsed = other.testUsed.clone();
            weight = other.weight;
            testWeight = other.testWeight;
            chunks = other.chunks;
            next = other.next;
            lastEnd = other.lastEnd;
            distance = other.distance;
        }

        boolean free(Match match) {
            for (int i = 0; i < match.length; i++) {
                if (used[match.start + i]) {
                    return false;
                }
            }
            for (int i = 0; i < match.testLength; i++) {
                if (testUsed[match.testStart + i]) {
                    return false;
                }
            }
            return true;
        }

        void use(Match match) {
            matches[match.start] = match;
            Arrays.fill(used, match.start, match.start + match.length, true);
            Arrays.fill(testUsed, match.testStart, match.testStart + match.testLength, true);
        }

        /** Go on behind a match; weights are cut to whole numbers at each step. */
        void pass(Match match) {
            testWeight = (int) (testWeight + match.testLength * WEIGHTS[match.module]);
            weight = (int) (weight + match.length * WEIGHTS[match.module]);
            if (lastEnd != -1 && match.testStart != lastEnd) {
                chunks++;
            }
            next = match.start + match.length;
            lastEnd = match.testStart + match.testLength;
        }

        void endChunk() {
            if (lastEnd != -1) {
                chunks++;
                lastEnd = -1;
            }
        }

        @Override
        public int compareTo(Partial other) {
            int gain = other.testWeight + other.weight - (testWeight + weight);
            return gain != 0 ? gain : chunks != other.chunks ? chunks - other.chunks : distance - other.distance;
        }
    }

    private static Partial unambiguous(Stage stage) {
        Partial partial = new Partial(stage.testCover.length, stage.cover.length);
        for (List<Match> here : stage.matches) {
            if (here.size() == 1 && stage.alone(here.get(0))) {
                partial.use(here.get(0));
            }
        }
        return partial;
    }

    private static Match[] resolve(Stage stage, Partial first) {
        int length = stage.cover.length;
        List<Partial> now = new ArrayList<>(List.of(first));
        for (int i = 0; i < length; i++) {
            now.sort(null);
            List<Partial> then = new ArrayList<>();
            for (Partial partial : now.subList(0, Math.min(BEAM, now.size()))) {
                step(stage, partial, i, then);
            }
            if (then.isEmpty()) {
                then.add(now.get(0));
            }
            now = then;
        }
        now.sort(null);
        now = new ArrayList<>(now.subList(0, Math.min(BEAM, now.size())));
        now.forEach(partial -> partial.chunks += partial.lastEnd != -1 ? 1 : 0);
        now.sort(null);
        return now.get(0).matches;
    }

    /** Add what follows from a partial alignment at place i of the reference. */
    private static void step(Stage stage, Partial partial, int i, List<Partial> then) {
        if (partial.used[i]) {
            if (i < partial.next) {
                then.add(partial);
            } else if (partial.matches[partial.next] != null) {
                Match match = partial.matches[partial.next];
                partial.pass(match);
                partial.distance += Math.abs(match.start - match.testStart);
                then.add(partial);
            }
            return;
        }
        for (Match match : stage.matches.get(i)) {
            if (partial.free(match)) {
                Partial child = new Partial(partial);
                child.use(match);
                child.pass(match);
                partial.distance += Math.abs(match.start - match.testStart); // METEOR charges it to the parent
                then.add(child);
            }
        }
        partial.endChunk();
        partial.next++;
        then.add(partial);
    }
}
