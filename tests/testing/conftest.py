collect_ignore = ["sample_plugin"]  # a package of somebody else: importing it here would register its parts
