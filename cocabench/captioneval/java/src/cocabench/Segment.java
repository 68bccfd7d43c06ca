package cocabench;

/** What METEOR counts of an alignment, and the score by which it chooses among references. */
final class Segment {
    private static final double ALPHA = 0.85;
    private static final double BETA = 0.2;
    private static final double GAMMA = 0.6;
    private static final double DELTA = 0.75;
    private static final double[] WEIGHTS = {1.0, 0.6, 0.8, 0.6};

    private int testLength;
    private int length;
    private int testFunction;
    private int function;

    /** By module: content words of the test and of the reference, function words of both. */
    private final int[][] matched = new int[Aligner.MODULES][4];

    private int chunks;
    private int testMatches;
    private int matches;

    static Segment of(Aligner.Match[] chosen, int[] test, int[] reference, Words words) {
        Segment segment = new Segment();
        segment.testLength = test.length;
        segment.length = reference.length;
        for (int word : test) {
            segment.testFunction += words.function[word] ? 1 : 0;
        }
        for (int word : reference) {
            segment.function += words.function[word] ? 1 : 0;
        }
        for (Aligner.Match match : chosen) {
            if (match != null) {
                segment.count(match, test, reference, words);
            }
        }
        segment.countChunks(chosen);
        return segment;
    }

    private void count(Aligner.Match match, int[] test, int[] reference, Words words) {
        for (int i = 0; i < match.testLength; i++) {
            matched[match.module][words.function[test[match.testStart + i]] ? 2 : 0]++;
        }
        for (int i = 0; i < match.length; i++) {
            matched[match.module][words.function[reference[match.start + i]] ? 3 : 1]++;
        }
        testMatches += match.testLength;
        matches += match.length;
    }

    private void countChunks(Aligner.Match[] chosen) {
        int lastEnd = -1;
        for (int i = 0; i < chosen.length; ) {
            Aligner.Match match = chosen[i];
            if (lastEnd != -1 && (match == null || match.testStart != lastEnd)) {
                chunks++;
            }
            lastEnd = match == null ? -1 : match.testStart + match.testLength;
            i = match == null ? i + 1 : match.start + match.length;
        }
        chunks += lastEnd != -1 ? 1 : 0;
    }

    /** In METEOR's order of operations: references tie or not by the last bit. */
    double score() {
        double precision = weighted(0) / (DELTA * (testLength - testFunction) + (1.0 - DELTA) * testFunction);
        double recall = weighted(1) / (DELTA * (length - function) + (1.0 - DELTA) * function);
        double mean = 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall);
        boolean whole = testMatches == testLength && matches == length && chunks == 1;
        double fragments = whole ? 0.0 : chunks / ((testMatches + matches) / 2.0);
        double score = mean * (1.0 - GAMMA * Math.pow(fragments, BETA));
        return Double.isNaN(score) ? 0.0 : Math.max(score, 0.0);
    }

    private double weighted(int side) {
        double sum = 0.0;
        for (int module = 0; module < Aligner.MODULES; module++) {
            sum += (double) matched[module][side] * WEIGHTS[module] * DELTA;
        }
        for (int module = 0; module < Aligner.MODULES; module++) {
            sum += (double) matched[module][2 + side] * WEIGHTS[module] * (1.0 - DELTA);
        }
        return sum;
    }

    /** METEOR's line of statistics. */
    @Override
    public String toString() {
        StringBuilder line = new StringBuilder();
        line.append(testLength).append(' ').append(length).append(' ');
        line.append(testFunction).append(' ').append(function).append(' ');
        for (int[] counts : matched) {
            for (int count : counts) {
                line.append(count).append(' ');
            }
        }
        return line.append(chunks).append(' ').append(testMatches).append(' ').append(matches).toString();
    }
}
