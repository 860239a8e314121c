"""The literature that figures and methods rest on, each entry as a list of references has it."""

TRANSFORMATIONS = "Transformation Behavior of Images in Latent Space. arXiv 2606.24430 (2026)"
PLISMBENCH = (
    "Filiot, A. et al. Distilling foundation models for robust and efficient models in digital pathology. "
    "arXiv 2501.16239 (2025); accuracies as plismbench has them"
)
PATHOROB = "Kömen, J. et al. Towards robust foundation models for digital pathology. arXiv 2507.17845 (2025); PathoROB"
UNROBUST = (
    "de Jong, E. D., Marcus, E. & Teuwen, J. Current pathology foundation models are unrobust to medical center "
    "differences. arXiv 2501.18055 (2025)"
)
CROMA = "A distributional robustness margin for pathology foundation models. arXiv 2607.25497 (2026); MaRI and CRoMa"
HARMONY = (
    "Korsunsky, I. et al. Fast, sensitive and accurate integration of single-cell data with Harmony. Nat. Methods 16, "
    "1289-1296 (2019); scaled as in scib-metrics"
)
KBET = (
    "Büttner, M. et al. A test metric for assessing single-cell RNA-seq batch correction. Nat. Methods 16, 43-49 "
    "(2019); as in scib-metrics"
)
ROUSSEEUW = (
    "Rousseeuw, P. J. Silhouettes: a graphical aid to the interpretation and validation of cluster analysis. "
    "J. Comput. Appl. Math. 20, 53-65 (1987)"
)
SCIB = (
    "Luecken, M. D. et al. Benchmarking atlas-level data integration in single-cell genomics. Nat. Methods 19, 41-50 "
    "(2022)"
)
LENC = (
    "Lenc, K. & Vedaldi, A. Understanding image representations by measuring their equivariance and equivalence. "
    "CVPR, 991-999 (2015)"
)
ROY = "Roy, O. & Vetterli, M. The effective rank: a measure of effective dimensionality. EUSIPCO, 606-610 (2007)"
CKA = (
    "Kornblith, S. et al. Similarity of neural network representations revisited. ICML (2019), with the unbiased "
    "estimate of Song, L. et al. J. Mach. Learn. Res. 13, 1393-1434 (2012)"
)
GOWER = "Gower, J. C. Generalized Procrustes analysis. Psychometrika 40, 33-51 (1975)"
PLATONIC = "Huh, M. et al. The Platonic representation hypothesis. ICML (2024)"
DOWSON = (
    "Dowson, D. C. & Landau, B. V. The Fréchet distance between multivariate normal distributions. J. Multivar. Anal. "
    "12, 450-455 (1982)"
)
PEYRE = "Peyré, G. & Cuturi, M. Computational optimal transport. Found. Trends Mach. Learn. 11, 355-607 (2019)"
BONNEEL = (
    "Bonneel, N. et al. Sliced and Radon Wasserstein barycenters of measures. J. Math. Imaging Vis. 51, 22-45 (2015)"
)
BEN_DAVID = "Ben-David, S. et al. Analysis of representations for domain adaptation. NIPS 19, 137-144 (2007)"
ZEILER = "Zeiler, M. D. & Fergus, R. Visualizing and understanding convolutional networks. ECCV, 818-833 (2014)"

EFRON = "Efron, B. Better bootstrap confidence intervals. J. Am. Stat. Assoc. 82, 171-185 (1987)"
HESTERBERG = "Hesterberg, T. C. What teachers should know about the bootstrap. Am. Stat. 69, 371-386 (2015)"
HOLM = "Holm, S. A simple sequentially rejective multiple test procedure. Scand. J. Stat. 6, 65-70 (1979)"
BENJAMINI = "Benjamini, Y. & Hochberg, Y. Controlling the false discovery rate. J. R. Stat. Soc. B 57, 289-300 (1995)"
