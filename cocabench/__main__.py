from cocabench.cli import main

main()
