import '../eval-pope/ours.ts';
