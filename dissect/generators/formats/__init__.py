"""The kinds of files that hold generators, one module each; none runs a byte of its file.

===================  ===================================================================================
``stored``           where a tensor's numbers are: how they are read, and written in place
``stream``           the bytes of a pickle, and how much may be done with them
``passive``          a pickle machine that only makes lists, dicts, numbers, text, and stand-ins
``names``            the names that any pickle may ask for, and what stands for them
``arrays``           numpy's arrays and numbers in pickles
``tensors``          torch's tensors in pickles
``torch_zip``        torch's files: a zip with a pickle and one record for each storage
``torch_legacy``     torch's older files, and the same as bytes inside other pickles
``persistence``      NVIDIA's modules (StyleGAN2-ADA, StyleGAN3)
``tensorflow``       NVIDIA's networks of the TensorFlow years (PGGAN, StyleGAN, StyleGAN2)
``pickles``          plain pickles: the two above, and dicts of arrays
``safe``             safetensors
``hdf5``             Keras and TFHub dumps (``hdf5_child``: the process that opens them)
``openvino``         OpenVINO's intermediate representation: XML graphs with binary constants
``networks``         which parts of what a file holds are networks, the likeliest first
===================  ===================================================================================
"""
